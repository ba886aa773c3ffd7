ALTER TABLE `agents` ADD `old_secret_hash` text;--> statement-breakpoint
ALTER TABLE `agents` ADD `old_secret_until` integer;--> statement-breakpoint
CREATE INDEX `sessions_removed` ON `sessions` (`ended_at`) WHERE removed_at is not null;