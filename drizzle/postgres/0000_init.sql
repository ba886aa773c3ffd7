CREATE TABLE "agent_refusals" (
	"agent_id" text collate "C" NOT NULL,
	"minute" bigint NOT NULL,
	"route" text collate "C" NOT NULL,
	"outcome" text collate "C" NOT NULL,
	"count" integer NOT NULL,
	"first_at" bigint NOT NULL,
	"last_at" bigint NOT NULL,
	CONSTRAINT "agent_refusals_agent_id_minute_route_outcome_pk" PRIMARY KEY("agent_id","minute","route","outcome")
);
--> statement-breakpoint
CREATE TABLE "agents" (
	"id" text collate "C" PRIMARY KEY NOT NULL,
	"secret_hash" text collate "C" NOT NULL,
	"sealed_secret" text collate "C",
	"scopes" text collate "C" NOT NULL,
	"old_secret_hash" text collate "C",
	"old_sealed_secret" text collate "C",
	"old_secret_until" bigint,
	"generation" integer DEFAULT 1 NOT NULL,
	"created_at" bigint NOT NULL,
	"disabled_at" bigint,
	"summon" text collate "C" DEFAULT 'any' NOT NULL
);
--> statement-breakpoint
CREATE TABLE "audit_entries" (
	"session_id" text collate "C" NOT NULL,
	"minute" bigint NOT NULL,
	"agent_id" text collate "C" NOT NULL,
	"route" text collate "C" NOT NULL,
	"outcome" text collate "C" NOT NULL,
	"count" integer NOT NULL,
	"first_at" bigint NOT NULL,
	"last_at" bigint NOT NULL,
	CONSTRAINT "audit_entries_session_id_minute_agent_id_route_outcome_pk" PRIMARY KEY("session_id","minute","agent_id","route","outcome")
);
--> statement-breakpoint
CREATE TABLE "clock" (
	"id" integer PRIMARY KEY NOT NULL,
	"now" bigint NOT NULL,
	"steady" bigint NOT NULL,
	"latest" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "events" (
	"session_id" text collate "C" NOT NULL,
	"seq" bigint NOT NULL,
	"type" text collate "C" NOT NULL,
	"data" text collate "C" NOT NULL,
	"agent_id" text collate "C",
	"created_at" bigint NOT NULL,
	CONSTRAINT "events_session_id_seq_pk" PRIMARY KEY("session_id","seq")
);
--> statement-breakpoint
CREATE TABLE "finished_rooms" (
	"session_id" text collate "C" NOT NULL,
	"room_sid" text collate "C" NOT NULL,
	"finished_at" bigint NOT NULL,
	CONSTRAINT "finished_rooms_session_id_room_sid_pk" PRIMARY KEY("session_id","room_sid")
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"agent_id" text collate "C" NOT NULL,
	"session_id" text collate "C" NOT NULL,
	"key" text collate "C" NOT NULL,
	"payload_hash" text collate "C" NOT NULL,
	"seq" bigint NOT NULL,
	"created_at" bigint NOT NULL,
	CONSTRAINT "idempotency_keys_session_id_agent_id_key_pk" PRIMARY KEY("session_id","agent_id","key")
);
--> statement-breakpoint
CREATE TABLE "jobs" (
	"id" text collate "C" PRIMARY KEY NOT NULL,
	"session_id" text collate "C" NOT NULL,
	"agent_id" text collate "C" NOT NULL,
	"worker_id" text collate "C" NOT NULL,
	"assigned_at" bigint NOT NULL,
	"ended_at" bigint,
	"ended_steady" bigint,
	"end" text collate "C",
	"ordinal" bigint GENERATED ALWAYS AS IDENTITY (sequence name "jobs_ordinal_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1)
);
--> statement-breakpoint
CREATE TABLE "presences" (
	"sid" text collate "C" NOT NULL,
	"session_id" text collate "C" NOT NULL,
	"room_sid" text collate "C",
	"joined_at" bigint,
	"seen_at" bigint,
	"confirmed_at" bigint,
	"left_at" bigint,
	"left_reason" text collate "C",
	"misses" integer DEFAULT 0 NOT NULL,
	"missed_at" bigint,
	CONSTRAINT "presences_session_id_sid_pk" PRIMARY KEY("session_id","sid")
);
--> statement-breakpoint
CREATE TABLE "refresh_families" (
	"id" text collate "C" PRIMARY KEY NOT NULL,
	"user_id" text collate "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"revoked_at" bigint,
	"revoked_reason" text collate "C"
);
--> statement-breakpoint
CREATE TABLE "refresh_tokens" (
	"hash" text collate "C" PRIMARY KEY NOT NULL,
	"family_id" text collate "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"used_at" bigint
);
--> statement-breakpoint
CREATE TABLE "rooms" (
	"name" text collate "C" PRIMARY KEY NOT NULL,
	"owner_id" text collate "C" NOT NULL,
	"claimed_at" bigint NOT NULL,
	"used_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "sessions" (
	"id" text collate "C" PRIMARY KEY NOT NULL,
	"user_id" text collate "C" NOT NULL,
	"sign_in_id" text collate "C",
	"room" text collate "C" NOT NULL,
	"status" text collate "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"token_expires_at" bigint NOT NULL,
	"ended_at" bigint,
	"end_reason" text collate "C",
	"agent_name" text collate "C",
	"agent_data" text collate "C",
	"agent_deployment" text collate "C",
	"dispatched_sid" text collate "C",
	"dispatched_at" bigint,
	"phone_sid" text collate "C",
	"calling_since" bigint,
	"removed_at" bigint,
	"last_seq" bigint DEFAULT 0 NOT NULL,
	"event_bytes" bigint DEFAULT 0 NOT NULL,
	"version" integer DEFAULT 0 NOT NULL,
	"is_unused" boolean GENERATED ALWAYS AS (removed_at is not null and last_seq = 1) STORED
);
--> statement-breakpoint
CREATE TABLE "signing_keys" (
	"kid" text collate "C" PRIMARY KEY NOT NULL,
	"alg" text collate "C" NOT NULL,
	"private_jwk" text collate "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"signs_from" bigint NOT NULL,
	"expires_at" bigint
);
--> statement-breakpoint
CREATE TABLE "store_secrets" (
	"name" text collate "C" PRIMARY KEY NOT NULL,
	"value" text collate "C" NOT NULL,
	"created_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "users" (
	"id" text collate "C" PRIMARY KEY NOT NULL,
	"email" text collate "C",
	"name" text collate "C",
	"password_hash" text collate "C",
	"created_at" bigint NOT NULL,
	"seen_at" bigint NOT NULL,
	"sessions_version" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "webhook_events" (
	"id" text collate "C" PRIMARY KEY NOT NULL,
	"received_at" bigint NOT NULL
);
--> statement-breakpoint
ALTER TABLE "audit_entries" ADD CONSTRAINT "audit_entries_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "events" ADD CONSTRAINT "events_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "finished_rooms" ADD CONSTRAINT "finished_rooms_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "presences" ADD CONSTRAINT "presences_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "refresh_families" ADD CONSTRAINT "refresh_families_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "refresh_tokens" ADD CONSTRAINT "refresh_tokens_family_id_refresh_families_id_fk" FOREIGN KEY ("family_id") REFERENCES "refresh_families"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rooms" ADD CONSTRAINT "rooms_owner_id_users_id_fk" FOREIGN KEY ("owner_id") REFERENCES "users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "agent_refusals_age" ON "agent_refusals" USING btree ("last_at");--> statement-breakpoint
CREATE INDEX "audit_entries_agent" ON "audit_entries" USING btree ("agent_id","minute");--> statement-breakpoint
CREATE INDEX "idempotency_keys_age" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "jobs_session" ON "jobs" USING btree ("session_id","agent_id");--> statement-breakpoint
CREATE INDEX "refresh_families_user" ON "refresh_families" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "refresh_families_expiry" ON "refresh_families" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "refresh_families_revoked" ON "refresh_families" USING btree ("revoked_at") WHERE revoked_at is not null;--> statement-breakpoint
CREATE INDEX "refresh_tokens_family" ON "refresh_tokens" USING btree ("family_id");--> statement-breakpoint
CREATE INDEX "rooms_used" ON "rooms" USING btree ("used_at");--> statement-breakpoint
CREATE INDEX "rooms_owner" ON "rooms" USING btree ("owner_id");--> statement-breakpoint
CREATE INDEX "sessions_user" ON "sessions" USING btree ("user_id","id");--> statement-breakpoint
CREATE INDEX "sessions_user_unfinished" ON "sessions" USING btree ("user_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "sessions_room" ON "sessions" USING btree ("room","ended_at");--> statement-breakpoint
CREATE INDEX "sessions_removed" ON "sessions" USING btree ("ended_at") WHERE removed_at is not null;--> statement-breakpoint
CREATE INDEX "sessions_never_joined" ON "sessions" USING btree ("ended_at") WHERE is_unused;--> statement-breakpoint
CREATE INDEX "sessions_to_remove" ON "sessions" USING btree ("ended_at") WHERE ended_at is not null and removed_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "users_email" ON "users" USING btree ("email");--> statement-breakpoint
CREATE INDEX "users_idle_guests" ON "users" USING btree ("seen_at") WHERE email is null;--> statement-breakpoint
CREATE INDEX "webhook_events_age" ON "webhook_events" USING btree ("received_at");--> statement-breakpoint
ALTER TABLE "sessions" SET (fillfactor = 80);--> statement-breakpoint
ALTER TABLE "presences" SET (fillfactor = 80);--> statement-breakpoint
ALTER TABLE "users" SET (fillfactor = 90);--> statement-breakpoint
INSERT INTO "clock" VALUES (1, 0, 0, 0);
