DROP INDEX `sessions_user_unfinished`;--> statement-breakpoint
DROP INDEX `sessions_user`;--> statement-breakpoint
CREATE INDEX `sessions_unfinished` ON `sessions` (`id`) WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX `sessions_user` ON `sessions` (`user_id`,(ended_at is null),`id`);