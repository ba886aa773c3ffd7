CREATE TABLE `audit_entries` (
	`session_id` text NOT NULL,
	`minute` integer NOT NULL,
	`agent_id` text NOT NULL,
	`route` text NOT NULL,
	`outcome` text NOT NULL,
	`count` integer NOT NULL,
	`first_at` integer NOT NULL,
	`last_at` integer NOT NULL,
	PRIMARY KEY(`session_id`, `minute`, `agent_id`, `route`, `outcome`),
	FOREIGN KEY (`session_id`) REFERENCES `sessions`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `audit_entries_agent` ON `audit_entries` (`agent_id`,`minute`);