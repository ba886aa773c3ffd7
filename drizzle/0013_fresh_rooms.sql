DROP INDEX `sessions_unfinished`;--> statement-breakpoint
CREATE INDEX `sessions_room` ON `sessions` (`room`,`ended_at`);--> statement-breakpoint
DELETE FROM `rooms` WHERE `is_claimed` = 0;--> statement-breakpoint
ALTER TABLE `rooms` DROP COLUMN `is_claimed`;