// Bare mint with net/http and LiveKit's auth package: server <port> <key> <secret>
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/livekit/protocol/auth"
)

type wanted struct {
	Room     string `json:"room"`
	Identity string `json:"identity"`
}

type minted struct {
	ServerURL        string `json:"server_url"`
	ParticipantToken string `json:"participant_token"`
}

func main() {
	port, key, secret := os.Args[1], os.Args[2], os.Args[3]
	yes := true
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		var body wanted
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		grant := &auth.VideoGrant{RoomJoin: true, Room: body.Room, CanPublish: &yes, CanSubscribe: &yes, CanPublishData: &yes}
		token, err := auth.NewAccessToken(key, secret).
			SetIdentity(body.Identity).SetValidFor(15 * time.Minute).SetVideoGrant(grant).ToJWT()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(minted{"ws://127.0.0.1:7880", token})
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
