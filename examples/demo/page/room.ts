import {
  type DisconnectReason,
  type Participant,
  RemoteAudioTrack,
  type RemoteTrack,
  Room,
  RoomEvent,
  setLogLevel,
} from 'livekit-client'
import { meter } from './audio.ts'
import { page } from './elements.ts'

/** Where LiveKit's agents say whether they listen, think or speak. */
const AGENT_STATE = 'lk.agent.state'

export interface RoomWatcher {
  onConnection(connection: 'connected' | 'reconnecting'): void
  /** `state` is what the agent says of itself, if anything. */
  onAgent(isHere: boolean, state?: string): void
  onSound(isBlocked: boolean): void
  onLost(reason: DisconnectReason | undefined): void
}

/** A LiveKit room that plays what it hears, shows how loud the agent is, and says what the page wants to know. */
export function createRoom({ onConnection, onAgent, onSound, onLost }: RoomWatcher): Room {
  setLogLevel('warn')
  const room = new Room()
  let stopMeter = () => {}
  const lookForAgent = () => {
    const agent = [...room.remoteParticipants.values()].find(({ isAgent }) => isAgent)
    onAgent(agent !== undefined, agent?.attributes[AGENT_STATE])
  }
  const play = (track: RemoteTrack, _publication: unknown, { isAgent }: Participant) => {
    if (!(track instanceof RemoteAudioTrack)) return
    document.body.append(track.attach())
    if (!isAgent) return
    stopMeter()
    stopMeter = meter(track, page.agentLevel, page.agentLevelText)
  }
  const fallSilent = (track: RemoteTrack, _publication: unknown, { isAgent }: Participant) => {
    for (const audio of track.detach()) audio.remove()
    if (isAgent) stopMeter()
  }
  return room
    .on(RoomEvent.Connected, lookForAgent)
    .on(RoomEvent.ParticipantConnected, lookForAgent)
    .on(RoomEvent.ParticipantDisconnected, lookForAgent)
    .on(RoomEvent.ParticipantAttributesChanged, lookForAgent)
    .on(RoomEvent.TrackSubscribed, play)
    .on(RoomEvent.TrackUnsubscribed, fallSilent)
    .on(RoomEvent.Reconnecting, () => onConnection('reconnecting'))
    .on(RoomEvent.Reconnected, () => onConnection('connected'))
    .on(RoomEvent.AudioPlaybackStatusChanged, () => onSound(!room.canPlaybackAudio))
    .on(RoomEvent.Disconnected, (reason) => {
      stopMeter()
      onLost(reason)
    })
}
