ALTER TABLE `sessions` ADD `phone_sid` text;--> statement-breakpoint
ALTER TABLE `sessions` ADD `calling_since` integer;