import { type DisconnectReason, type RemoteTrack, Room, RoomEvent, setLogLevel } from 'livekit-client'

export interface RoomWatcher {
  onConnection(connection: 'connected' | 'reconnecting'): void
  onAgent(isHere: boolean): void
  onSound(isBlocked: boolean): void
  onLost(reason: DisconnectReason | undefined): void
}

/** A LiveKit room that plays what it hears, and says what the page wants to know. */
export function createRoom({ onConnection, onAgent, onSound, onLost }: RoomWatcher): Room {
  setLogLevel('warn')
  const room = new Room()
  const lookForAgent = () => onAgent([...room.remoteParticipants.values()].some(({ isAgent }) => isAgent))
  const play = (track: RemoteTrack) => {
    if (track.kind === 'audio') document.body.append(track.attach())
  }
  const fallSilent = (track: RemoteTrack) => {
    for (const audio of track.detach()) audio.remove()
  }
  return room
    .on(RoomEvent.Connected, lookForAgent)
    .on(RoomEvent.ParticipantConnected, lookForAgent)
    .on(RoomEvent.ParticipantDisconnected, lookForAgent)
    .on(RoomEvent.TrackSubscribed, play)
    .on(RoomEvent.TrackUnsubscribed, fallSilent)
    .on(RoomEvent.Reconnecting, () => onConnection('reconnecting'))
    .on(RoomEvent.Reconnected, () => onConnection('connected'))
    .on(RoomEvent.AudioPlaybackStatusChanged, () => onSound(!room.canPlaybackAudio))
    .on(RoomEvent.Disconnected, onLost)
}
