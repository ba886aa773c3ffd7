PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_finished_rooms` (
	`session_id` text NOT NULL,
	`room_sid` text NOT NULL,
	`finished_at` integer NOT NULL,
	PRIMARY KEY(`session_id`, `room_sid`),
	FOREIGN KEY (`session_id`) REFERENCES `sessions`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
INSERT INTO `__new_finished_rooms`("session_id", "room_sid", "finished_at") SELECT DISTINCT `presences`.`session_id`, `finished_rooms`.`room_sid`, `finished_rooms`.`finished_at` FROM `finished_rooms` JOIN `presences` ON `presences`.`room_sid` = `finished_rooms`.`room_sid`;--> statement-breakpoint
DROP TABLE `finished_rooms`;--> statement-breakpoint
ALTER TABLE `__new_finished_rooms` RENAME TO `finished_rooms`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
ALTER TABLE `sessions` ADD `version` integer DEFAULT 0 NOT NULL;