CREATE TABLE `jobs` (
	`id` text PRIMARY KEY NOT NULL,
	`session_id` text NOT NULL,
	`agent_id` text NOT NULL,
	`worker_id` text NOT NULL,
	`assigned_at` integer NOT NULL,
	`ended_at` integer,
	`ended_steady` integer,
	`end` text,
	FOREIGN KEY (`session_id`) REFERENCES `sessions`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `jobs_session` ON `jobs` (`session_id`,`agent_id`);--> statement-breakpoint
ALTER TABLE `agents` ADD `sealed_secret` text;--> statement-breakpoint
ALTER TABLE `agents` ADD `old_sealed_secret` text;