ALTER TABLE `agents` ADD `sealed_secret` text;--> statement-breakpoint
ALTER TABLE `agents` ADD `old_sealed_secret` text;