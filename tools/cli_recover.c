// SPDX-License-Identifier: Apache-2.0
// The target's side of a disaster: points, failover; and forget, its opposite.
#include "tools/cli_failover.h"
#include "tools/cli_status.h"
#include "tools/cli_verify.h"
#include "tools/parse.h"
#include "tools/points.h"
#include "tools/show.h"

#include <inttypes.h>

static int target_get(const struct cli *cli, struct parse_target *ret_target)
{
	struct err err;
	if (parse_target(cli->argv[0], ret_target, &err))
		return cli_misused(cli, "%s", err.text);
	return CLI_DONE;
}

// What is to be said of a point beside its numbers.
static const char *point_note(const json_t *point, char *note, size_t cap)
{
	const json_t *pin = json_object_get(point, "pin");
	const char *text = show_text_of(pin, "text");
	(void)snprintf(note, cap, "%s%s%s%.200s", show_flag_of(point, "held") ? "held " : "", json_is_object(pin) ? "pinned" : "",
		       json_is_object(pin) && text[0] ? ": " : "", json_is_object(pin) ? text : "");
	return note;
}

static void print_points(const struct parse_target *target, const json_t *points)
{
	char note[256];
	const json_t *point;
	size_t i;
	if (json_array_size(points) == 0) {
		(void)printf("%s has no recovery point yet.\n", target->name);
		return;
	}
	struct table *table = table_new("rlrlrrrl");
	table_add(table, "POINT\tCUT\tAGE\tKIND\tDIRTY\tSENT\tSTORED");
	json_array_foreach(points, i, point) {
		table_add(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", show_integer_of(point, "point").text,
			  show_time_of(point, "cut").text, show_duration_of(point, "age_ms").text,
			  show_text_of(point, "consistency"), show_size_of(point, "dirty_bytes").text,
			  show_size_of(point, "wire_bytes").text, show_size_of(point, "stored_bytes").text,
			  point_note(point, note, sizeof(note)));
		if (show_number_of(point, "damaged_blocks"))
			table_note(table, "  ! in quarantine: %s", show_count_of(point, "damaged_blocks", "damaged block").text);
	}
	table_print(table, stdout);
}

static void print_disks(const json_t *object)
{
	const json_t *disk;
	size_t i;
	json_array_foreach(json_object_get(object, "disks"), i, disk)
		(void)printf("  %s  %s\n", show_text_of(disk, "name"), show_path_of(disk));
}

static void print_point(const json_t *point)
{
	(void)printf("point      %s%s\n", show_integer_of(point, "point").text,
		     show_flag_of(point, "held") ? ", held by a mount, a test, an export or a failover" : "");
	char note[256];
	if (show_has(point, "pin"))
		(void)printf("kept       %s\n", point_note(point, note, sizeof(note)));
	(void)printf("cut        %s, %s ago\n", show_time_of(point, "cut").text,
		     show_duration_of(point, "age_ms").text);
	(void)printf("committed  %s\n", show_time_of(point, "commit").text);
	(void)printf("kind       %s-consistent\n", show_text_of(point, "consistency"));
	(void)printf("bytes      %s dirty, %s sent, %s stored\n", show_size_of(point, "dirty_bytes").text,
		     show_size_of(point, "wire_bytes").text, show_size_of(point, "stored_bytes").text);
	if (show_number_of(point, "damaged_blocks"))
		(void)printf("quarantine it has %s\n", show_count_of(point, "damaged_blocks", "damaged block").text);
	(void)printf("disks (qcow2, read-only: a point never changes)\n");
	print_disks(point);
}

int cli_points(const struct cli *cli)
{
	struct parse_target target;
	json_t *answer;
	int rc = target_get(cli, &target);
	if (!rc)
		rc = points_get(cli, target.name, &answer);
	if (rc)
		return rc;
	json_t *point = target.point ? points_find(cli, &target, answer) : NULL;
	if (target.point && !point)
		rc = CLI_REFUSED;
	else if (cli->json)
		rc = cli_print_json(json_incref(point ? point : answer));
	else if (point)
		print_point(point);
	else
		print_points(&target, json_object_get(answer, "points"));
	if (rc == CLI_DONE && !cli->json)
		points_warn(stdout, target.name, answer);
	json_decref(answer);
	return rc;
}

// Finds out, changing nothing, which point a failover would take. On CLI_DONE *ret_point is the caller's.
static int failover_preview(const struct cli *cli, const struct parse_target *target, json_t **ret_point, json_t **ret_replica)
{
	json_t *answer;
	int rc = points_get(cli, target->name, &answer);
	if (rc)
		return rc;
	json_t *point = points_find(cli, target, answer);
	*ret_point = json_incref(point);
	json_decref(answer);
	if (!point)
		return CLI_REFUSED;
	rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, ret_replica, "/v1/protections/%s", target->name);
	if (rc)
		json_decref(*ret_point);
	return rc;
}

// What is known of the point's blocks before anybody uses it.
static void print_proof(json_t *point, json_t *replica)
{
	const json_t *verify;
	size_t i;
	char line[CLI_VERIFY_LINE], scrub[CLI_SCRUB_LINE];
	json_array_foreach(json_object_get(replica, "verifications"), i, verify) {
		if (show_number_of(verify, "point") != show_number_of(point, "point"))
			continue;
		cli_verify_line(verify, line);
		(void)printf("Proof: %s.\n", line);
		return;
	}
	cli_scrub_line(json_object_get(replica, "scrub"), scrub);
	(void)printf("Proof: the point was not read from end to end lately; of the replica, %s.\nIt would be proven beside its use, or, with --verify, before.\n", scrub);
}

// As the receiver's health has it: the failover would be refused.
static bool has_no_room(const json_t *replica)
{
	return show_has(replica, "store_free_bytes") && show_number_of(replica, "store_free_bytes") < show_number_of(replica, "failover_bytes");
}

// What a guest will write takes space beside the points; `object` is a replica or a failover.
static void print_space(const json_t *object)
{
	if (show_has(object, "store_free_bytes") && show_number_of(object, "store_free_bytes") < show_number_of(object, "store_reserve_bytes"))
		(void)printf("! The target's store has %s free, less than its reserve of %s: once that is full, its virtual machine's writes will fail. Free space there.\n",
			     show_size_of(object, "store_free_bytes").text, show_size_of(object, "store_reserve_bytes").text);
}

static int print_dry_run(const struct cli *cli, const struct parse_target *target, json_t *point, json_t *replica)
{
	const json_t *before = json_object_get(replica, "failover");
	uint64_t lost_ms = show_number_of(point, "age_ms");
	const char *displaced = show_text_of(replica, "store_displaced");
	bool refused = has_no_room(replica) || *displaced;
	if (cli->json) {
		int rc = cli_print_json(json_pack("{s:b, s:s, s:O, s:I, s:O}", "dry_run", 1, "name", target->name, "point", point,
						"lost_ms", (json_int_t)lost_ms, "replica", replica));
		return rc == CLI_DONE && refused ? CLI_REFUSED : rc;
	}
	if (*displaced)
		return cli_fail(cli, CLI_REFUSED, "a failover of %s now would be refused: %s", target->name, displaced);
	if (json_is_object(before) && !show_has(before, "command"))
		return cli_fail(cli, CLI_REFUSED, "%s is failed over to point %s, whose disks cannot be opened: %s is broken: %s", target->name,
				show_integer_of(before, "point").text, target->name, show_text_of(replica, "reason"));
	if (json_is_object(before)) {
		points_warn(stdout, target->name, replica);
		(void)printf("%s is failed over already, to point %s. Asking again for that point changes nothing; another one is "
			     "refused.\n",
			     target->name, show_integer_of(before, "point").text);
		print_disks(before);
		print_space(replica);
		return CLI_DONE;
	}
	if (refused)
		return cli_fail(cli, CLI_REFUSED, "a failover of %s now would be refused: the target's store has no room for its disks, which take %s: free space there", target->name,
				show_size_of(replica, "failover_bytes").text);
	points_warn(stdout, target->name, replica);
	(void)printf("A failover of %s now would take point %s (%s-consistent), cut at %s.\n"
		     "What the VM wrote in the %s since then would not be there.\n",
		     target->name, show_integer_of(point, "point").text, show_text_of(point, "consistency"),
		     show_time_of(point, "cut").text, show_duration(lost_ms).text);
	if (show_number_of(point, "damaged_blocks"))
		(void)printf("It has %s: it is in quarantine, and refused without --damaged.\n",
			     show_count_of(point, "damaged_blocks", "damaged block").text);
	print_proof(point, replica);
	(void)printf("It would end replication into this copy (%s%s now) and make a writable\n"
		     "overlay on each disk; the point stays as it is:\n",
		     points_broken(replica) ? "which is " : "the source is ", show_text_of(replica, "state"));
	print_disks(point);
	print_space(replica);
	(void)printf("Nothing was done.\n");
	return CLI_DONE;
}

// True when it may go on: said yes, or nobody is there to be asked.
static bool failover_confirmed(const struct cli *cli, const struct parse_target *target, const json_t *point,
			       const json_t *replica)
{
	if (json_is_object(json_object_get(replica, "failover")))
		return true; // nothing is decided any more
	points_warn(stdout, target->name, replica);
	return cli_confirmed(cli,
			     "Fail over %s to point %s, cut at %s (%s ago)?\nThe %s is %s. Replication into this copy ends.",
			     target->name, show_integer_of(point, "point").text, show_time_of(point, "cut").text,
			     show_duration_of(point, "age_ms").text, points_broken(replica) ? "replica" : "source", show_text_of(replica, "state"));
}

static void print_failover(const json_t *answer)
{
	(void)printf("%s is failed over to point %s, cut at %s.\n", show_text_of(answer, "name"),
		     show_integer_of(answer, "point").text, show_time_of(answer, "cut").text);
	points_warn(stdout, show_text_of(answer, "name"), answer);
	(void)printf("It took %s. What was written in the %s after the cut is not in it.\n\nDisks, writable qcow2:\n",
		     show_duration_of(answer, "duration_ms").text, show_duration_of(answer, "lost_ms").text);
	print_disks(answer);
	(void)printf("\nTo boot it:\n  %s\n", show_text_of(answer, "command"));
	print_space(answer);
	if (show_has(answer, "rollback_in_ms"))
		(void)printf("\nIt is taken back in %s, once no VM has its disks open, unless you keep it:\n  kagami failover %s --commit\n",
			     show_duration_of(answer, "rollback_in_ms").text, show_text_of(answer, "name"));
	else if (!show_flag_of(answer, "final"))
		(void)printf("\nThe wrong point? To take it back:  kagami failover %s --rollback\nTo keep it for good:              kagami failover %s "
			     "--commit\n",
			     show_text_of(answer, "name"), show_text_of(answer, "name"));
}

// Which of its three things the command is to do, and how long after; usage errors are told.
static int failover_options(const struct cli *cli, uint64_t *ret_after_ms)
{
	struct err err;
	const char *after = cli->option[OPT_ROLLBACK_AFTER];
	*ret_after_ms = 0;
	if (!!cli->option[OPT_ROLLBACK] + !!cli->option[OPT_COMMIT] + !!after > 1)
		return cli_misused(cli, "--rollback, --commit and --rollback-after exclude each other");
	if (cli->option[OPT_DISCARD] && !cli->option[OPT_ROLLBACK])
		return cli_misused(cli, "--discard-failover goes with --rollback");
	if (cli->option[OPT_COMMIT] && cli->option[OPT_DRY_RUN])
		return cli_misused(cli, "--commit throws nothing away: there is no --dry-run of it");
	if (after && parse_duration(after, ret_after_ms, &err))
		return cli_misused(cli, "--rollback-after: %s", err.text);
	if (after && *ret_after_ms == 0)
		return cli_misused(cli, "--rollback-after: %s would take it back at once: give the time that you need to look at it, such as 30m; --dry-run says what would be done",
				   after);
	return CLI_DONE;
}

int cli_failover(const struct cli *cli)
{
	struct parse_target target;
	json_t *point = NULL, *replica = NULL, *answer, *body;
	uint64_t after_ms = 0;
	int rc = target_get(cli, &target);
	if (!rc)
		rc = failover_options(cli, &after_ms);
	if (rc)
		return rc;
	if ((cli->option[OPT_ROLLBACK] || cli->option[OPT_COMMIT]) && (cli->option[OPT_VERIFY] || cli->option[OPT_DAMAGED]))
		return cli_misused(cli, "--verify and --damaged are for a failover, not for what becomes of one");
	if (cli->option[OPT_ROLLBACK] || cli->option[OPT_COMMIT])
		return cli_failover_end(cli, &target);
	bool dry_run = cli->option[OPT_DRY_RUN];
	if (dry_run || (cli_on_terminal() && !cli->option[OPT_YES])) {
		rc = failover_preview(cli, &target, &point, &replica);
		if (rc)
			return rc;
		bool go_on = !dry_run && failover_confirmed(cli, &target, point, replica);
		rc = dry_run ? print_dry_run(cli, &target, point, replica) : CLI_REFUSED;
		if (go_on && target.point == 0 && !json_is_object(json_object_get(replica, "failover")))
			target.point = show_number_of(point, "point"); // the one that was agreed to, not one that came since
		json_decref(point);
		json_decref(replica);
		if (!go_on)
			return rc;
	}
	rc = cli_verify_first(cli, &target);
	if (rc)
		return rc;
	body = json_object();
	if (target.point)
		(void)json_object_set_new(body, "point", json_integer((json_int_t)target.point));
	if (after_ms)
		(void)json_object_set_new(body, "rollback_after_ms", json_integer((json_int_t)after_ms));
	if (cli->option[OPT_DAMAGED])
		(void)json_object_set_new(body, "damaged", json_true());
	rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/protections/%s/failover", target.name);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_failover(answer);
	cli_verify_print(cli, target.name, json_object_get(answer, "verify"), true);
	json_decref(answer);
	return CLI_DONE;
}

// What would be removed. The disks of a failover hold what exists nowhere else: they go only when that was said, which
// the daemon insists on too. On CLI_DONE *ret_replica is the caller's.
static int forget_preview(const struct cli *cli, const char *name, json_t **ret_replica)
{
	json_t *replica;
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &replica, "/v1/protections/%s", name);
	if (rc)
		return rc;
	if (json_is_object(json_object_get(replica, "failover")) && !cli->option[OPT_DISCARD])
		rc = cli_fail(cli, CLI_REFUSED,
			      "%s was failed over, and what its VM wrote since is in the failover's disks alone (\"kagami status %s\" "
			      "names them): keep a copy, then say --discard-failover",
			      name, name);
	if (rc)
		json_decref(replica);
	else
		*ret_replica = replica;
	return rc;
}

// What a broken replica has is more than what of it can be used.
static void forget_broken(const json_t *replica, char *text, size_t cap)
{
	const json_t *unread = json_object_get(replica, "unread");
	uint64_t count = show_number_of(unread, "points");
	text[0] = 0;
	if (!points_broken(replica))
		return;
	if (!json_is_object(unread))
		(void)snprintf(text, cap, "; it is broken, and which others there are is not known");
	else if (count)
		(void)snprintf(text, cap, "; it is broken, and %s of them, %s%s, cannot be used", show_integer_of(unread, "points").text, count > 1 ? "the newest " : "",
			       show_integer_of(unread, "newest").text);
	else
		(void)snprintf(text, cap, "; it is broken");
}

static bool forget_confirmed(const struct cli *cli, const char *name, const json_t *replica)
{
	char broken[256];
	const json_t *unread = json_object_get(replica, "unread");
	uint64_t count = show_number_of(replica, "points") + show_number_of(unread, "points");
	forget_broken(replica, broken, sizeof(broken));
	return cli_confirmed(cli, "Remove the replica of %s and ALL of its recovery points (%" PRIu64 ", with %s in all%s)%s from this host?", name, count,
			     show_size_of(replica, "stored_bytes").text, broken, cli->option[OPT_DISCARD] ? ", and its failover's disks," : "");
}

int cli_forget(const struct cli *cli)
{
	const char *name = cli->argv[0];
	struct err err;
	json_t *answer, *replica;
	if (parse_name("protection", name, &err))
		return cli_misused(cli, "%s", err.text);
	if (!cli->option[OPT_YES] && !cli_on_terminal())
		return cli_misused(cli, "this removes every recovery point of %s: say --yes to mean it", name);
	int rc = forget_preview(cli, name, &replica);
	if (rc)
		return rc;
	bool go_on = forget_confirmed(cli, name, replica);
	json_decref(replica);
	if (!go_on)
		return CLI_REFUSED;
	rc = cli_ask(cli, HTTP_RECEIVER, "DELETE", NULL, &answer, "/v1/protections/%s%s", name,
		     cli->option[OPT_DISCARD] ? "?failover=discard" : "");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("The replica of %s and all of its points are removed.\n", name);
	json_decref(answer);
	return CLI_DONE;
}
