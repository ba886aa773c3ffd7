CREATE TABLE `clock` (
	`id` integer PRIMARY KEY NOT NULL,
	`now` integer NOT NULL,
	`steady` integer NOT NULL,
	`latest` integer NOT NULL
);
--> statement-breakpoint
INSERT INTO `clock` (`id`, `now`, `steady`, `latest`)
	SELECT 1, 0, `newest`, `newest` FROM (SELECT max(
		coalesce((SELECT max(max(coalesce(`seen_at`, 0), coalesce(`left_at`, 0), coalesce(`missed_at`, 0), coalesce(`confirmed_at`, 0), coalesce(`joined_at`, 0))) FROM `presences`), 0),
		coalesce((SELECT max(`finished_at`) FROM `finished_rooms`), 0),
		coalesce((SELECT max(max(`created_at`, coalesce(`used_at`, 0))) FROM `refresh_tokens`), 0)
	) AS `newest`);
