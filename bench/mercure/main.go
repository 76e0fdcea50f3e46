// A peer: Mercure's hub, as the Go library that it is, in one program with whoever
// LISTENs and publishes each row to its user's topic. (As a module of Caddy, with the
// rows POSTed to it, it has more to do.)
//
// Streams are anonymous and updates public: no token is verified. The transport is the
// one in memory, without history.
//
//	mercure BIND DATABASE_URL CHANNEL HEARTBEAT_SECONDS
package main

import (
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/dunglas/mercure"
	"github.com/jackc/pgx/v5"
)

type payload struct {
	UserID string          `json:"user_id"`
	Data   json.RawMessage `json:"data"`
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("mercure BIND DATABASE_URL CHANNEL HEARTBEAT_SECONDS")
	}
	bind, url, channel := os.Args[1], os.Args[2], os.Args[3]
	heartbeat, err := time.ParseDuration(os.Args[4] + "s")
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	hub, err := mercure.NewHub(
		ctx,
		mercure.WithAnonymous(),
		mercure.WithHeartbeat(heartbeat),
		mercure.WithWriteTimeout(0),
		mercure.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		log.Fatal(err)
	}
	rows, err := pgx.Connect(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := rows.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		log.Fatal(err)
	}
	go publish(ctx, rows, hub)
	http.Handle("/.well-known/mercure", hub)
	log.Fatal(http.ListenAndServe(bind, nil))
}

func publish(ctx context.Context, rows *pgx.Conn, hub *mercure.Hub) {
	for {
		notification, err := rows.WaitForNotification(ctx)
		if err != nil {
			log.Fatal(err)
		}
		var row payload
		if json.Unmarshal([]byte(notification.Payload), &row) != nil {
			continue
		}
		update := mercure.Update{
			Topics: []string{row.UserID},
			Event:  mercure.Event{Type: "notification", Data: string(row.Data)},
		}
		if err := hub.Publish(ctx, &update); err != nil {
			log.Fatal(err)
		}
	}
}
