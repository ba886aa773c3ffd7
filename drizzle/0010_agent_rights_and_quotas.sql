CREATE TABLE `agent_refusals` (
	`agent_id` text NOT NULL,
	`minute` integer NOT NULL,
	`route` text NOT NULL,
	`outcome` text NOT NULL,
	`count` integer NOT NULL,
	`first_at` integer NOT NULL,
	`last_at` integer NOT NULL,
	PRIMARY KEY(`agent_id`, `minute`, `route`, `outcome`)
);
--> statement-breakpoint
CREATE INDEX `agent_refusals_age` ON `agent_refusals` (`last_at`);--> statement-breakpoint
ALTER TABLE `agents` ADD `summon` text DEFAULT 'any' NOT NULL;--> statement-breakpoint
ALTER TABLE `rooms` ADD `is_claimed` integer DEFAULT true NOT NULL;--> statement-breakpoint
ALTER TABLE `sessions` ADD `event_bytes` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
UPDATE `agents` SET `scopes` = trim(`scopes` || ' sessions:any'), `generation` = `generation` + 1;--> statement-breakpoint
UPDATE `rooms` SET `is_claimed` = `name` NOT GLOB 'room_????????????????????????????????';--> statement-breakpoint
UPDATE `sessions` SET `event_bytes` = (SELECT coalesce(sum(octet_length(`data`)), 0) FROM `events` WHERE `session_id` = `sessions`.`id`) WHERE `ended_at` IS NULL;
