// SPDX-License-Identifier: Apache-2.0
// `kagami status NAME`: one protection in full.
#include "tools/cli_status.h"
#include "tools/cli_verify.h"
#include "tools/points.h"
#include "tools/show.h"

#include "link/health.h"

#include <string.h>

#define FIELD "  %-14s "
enum { CLOCK_NOTE_MS = 2000 };

static void print_text(const char *field, const char *text)
{
	if (text[0])
		(void)printf(FIELD "%s\n", field, text);
}

static void print_state(const json_t *object, const char *side)
{
	const char *state = show_text_of(object, "state"), *missing = show_text_of(json_object_get(object, "rpo"), "missing");
	(void)printf("%s (%s)\n", show_text_of(object, "name"), side);
	(void)printf(FIELD "%s\n", "state", state);
	print_text("reason", show_text_of(object, "reason"));
	bool over = cli_status_failed_over(object), fenced = strcmp(state, "fenced") == 0;
	if (health_pause_waits(object))
		(void)printf(FIELD "as soon as what is under way has ended\n", "paused");
	if (strcmp(state, "unprotected") == 0) {
		if (show_has(object, "age_ms"))
			(void)printf(FIELD "%s old; none follows\n", "newest point", show_duration_of(object, "age_ms").text);
		(void)printf(FIELD "at the source, on %s; its points are kept until `kagami forget %s`\n", "unprotected", show_time_of(object, "unprotected").text,
			     show_text_of(object, "name"));
	} else if (show_has(object, "ending_ms")) {
		(void)printf(FIELD "for %s; it answers nothing else meanwhile\n", "ending", show_duration_of(object, "ending_ms").text);
		if (show_has(object, "age_ms"))
			(void)printf(FIELD "%s old; none follows\n", "newest point", show_duration_of(object, "age_ms").text);
	} else if (show_has(object, "age_ms") && (over || fenced))
		(void)printf(FIELD "%s old; none follows %s\n", "newest point", show_duration_of(object, "age_ms").text,
			     over ? "a failover" : "until the failover is taken back (kagami failover NAME --rollback, on the target host)");
	else if (show_has(object, "age_ms"))
		(void)printf(FIELD "%s%s%s old; the RPO of %s is %s%s%s\n", "newest point", show_has(object, "point") ? show_integer_of(object, "point").text : "",
			     show_has(object, "point") ? ", " : "", show_duration_of(object, "age_ms").text,
			     show_duration_of(object, "rpo_ms").text, show_flag_of(object, "rpo_violated") ? "VIOLATED" : "kept",
			     missing[0] ? ": " : "", missing);
	else
		(void)printf(FIELD "%s%s; the RPO is %s\n", "newest point",
			     show_has(object, "point") ? show_integer_of(object, "point").text : json_is_false(json_object_get(object, "point_known")) ? "not known" : "none yet",
			     show_has(object, "point") ? ", of an age that is not known" : "", show_duration_of(object, "rpo_ms").text);
}

// The note of it: what is cut and kept by time is off by as much.
static void print_clocks(const json_t *object)
{
	const json_t *offset = json_object_get(object, "clock_offset_ms");
	json_int_t ms = json_integer_value(offset);
	uint64_t apart = (uint64_t)(ms < 0 ? -ms : ms), error = show_number_of(object, "clock_error_ms");
	if (!json_is_integer(offset))
		return;
	(void)printf(FIELD "the target's is %s %s the source's, to within %s%s\n", "clocks", show_duration(apart).text, ms < 0 ? "behind" : "ahead of",
		     show_duration(error).text, apart > CLOCK_NOTE_MS + error ? ": SET ONE OF THEM RIGHT (chrony, systemd-timesyncd)" : "");
}

// How the objective was kept, and what is recommended.
static void print_objective(const json_t *object)
{
	const json_t *rpo = json_object_get(object, "rpo"), *week = json_object_get(json_object_get(rpo, "age"), "week"), *advice = json_object_get(rpo, "advice");
	json_int_t left = json_integer_value(json_object_get(rpo, "budget_left_ms"));
	if (!json_is_object(rpo))
		return;
	if (show_has(week, "p99_ms"))
		(void)printf(FIELD "in a week: half the time below %s, 99%% below %s, at most %s\n", "age", show_duration_of(week, "p50_ms").text,
			     show_duration_of(week, "p99_ms").text, show_duration_of(week, "max_ms").text);
	if (cli_status_unbound(object)) // it has none any more
		return;
	(void)printf(FIELD "%.7g%% of the time within the RPO: %s%s of %s are left this week\n", "objective",
		     100 * json_number_value(json_object_get(rpo, "objective")), left < 0 ? "-" : "",
		     show_duration((uint64_t)(left < 0 ? -left : left)).text, show_duration_of(rpo, "budget_ms").text);
	if (json_is_object(advice))
		(void)printf(FIELD "an RPO of %s: %s\n", "advised", show_duration_of(advice, "rpo_ms").text, show_text_of(advice, "why"));
}

static void print_bandwidth(const json_t *protection)
{
	const json_t *rule, *rules = json_object_get(protection, "bandwidth");
	size_t i;
	if (!show_has(protection, "bandwidth_used"))
		return;
	(void)printf(FIELD "%s/s over the last 10 s", "bandwidth", show_size_of(protection, "bandwidth_used").text);
	if (show_has(protection, "bandwidth_limit"))
		(void)printf(", of %s/s at the most", show_size_of(protection, "bandwidth_limit").text);
	json_array_foreach(rules, i, rule)
		(void)printf("%s%s", i ? "; " : " (", json_string_value(rule));
	(void)printf("%s, priority %s\n", json_array_size(rules) ? ")" : "", show_text_of(protection, "priority"));
}

static void print_last_cycle(const json_t *last)
{
	if (!json_is_object(last))
		return;
	(void)printf(FIELD "%s, point %s, cut %s\n", "last cycle", show_has(last, "cycle") ? show_integer_of(last, "cycle").text : "of the agent's run before",
		     show_integer_of(last, "point").text, show_time_of(last, "cut").text);
	(void)printf(FIELD "took %s, held the guest %s us%s%s\n", "", show_duration_of(last, "duration_ms").text,
		     show_integer_of(last, "hold_us").text, show_has(last, "sync_reason") ? ", a sync: " : "",
		     show_text_of(last, "sync_reason"));
	(void)printf(FIELD "%s dirty, %s read, %s blocks, %s sent\n", "", show_size_of(last, "dirty_bytes").text,
		     show_size_of(last, "read_bytes").text, show_integer_of(last, "sent_blocks").text,
		     show_size_of(last, "wire_bytes").text);
}

const char *cli_status_extent(const char *reason)
{
	if (strcmp(reason, "replica-damaged") == 0)
		return "what is damaged at the target";
	if (strcmp(reason, "false-hole") == 0)
		return "the region of the false hole";
	return strcmp(reason, "unclean-stop") == 0 ? "the marked regions" : "the whole disks";
}

// What the operator would pay if the host died now, and how the guest felt the cuts so far.
static void print_price(const json_t *protection)
{
	const json_t *price = json_object_get(protection, "crash_price");
	const json_t *cuts = json_object_get(protection, "cuts");
	if (show_flag_of(protection, "compare_asked"))
		(void)printf(FIELD "everything is compared by the next cycle\n", "asked");
	if (!json_is_object(price) || !json_is_object(cuts))
		return;
	(void)printf(FIELD "%s read again, at most %s sent", "a crash now", show_size_of(price, "reread_bytes").text,
		     show_size_of(price, "resend_bytes_max").text);
	if (show_has(price, "seconds"))
		(void)printf(", in %s", show_duration((uint64_t)(json_real_value(json_object_get(price, "seconds")) * 1000)).text);
	(void)putchar('\n');
	if (show_number_of(cuts, "count"))
		(void)printf(FIELD "%s; half held below %s us, 99%% below %s us, the longest %s us\n", "cuts",
			     show_integer_of(cuts, "count").text, show_integer_of(cuts, "p50_us").text,
			     show_integer_of(cuts, "p99_us").text, show_integer_of(cuts, "max_us").text);
	if (show_number_of(cuts, "given_up"))
		(void)printf(FIELD "%s, since a disk did not answer\n", "cuts given up", show_integer_of(cuts, "given_up").text);
	if (show_number_of(cuts, "overtaken"))
		(void)printf(FIELD "%s; the newest since %s\n", "cuts overtaken", show_integer_of(cuts, "overtaken").text, show_text_of(cuts, "overtaken_why"));
}

static void print_cycle_now(const json_t *protection)
{
	const json_t *progress = json_object_get(protection, "progress");
	const char *sync = show_text_of(protection, "sync_reason");
	if (json_is_object(progress))
		(void)printf(FIELD "%s of %s (%s)", "under way", show_size_of(progress, "done_bytes").text,
			     show_size_of(progress, "total_bytes").text, show_text_of(progress, "kind"));
	if (json_is_object(progress) && show_has(progress, "left_ms"))
		(void)printf(", %s/s, %s left", show_size_of(progress, "bytes_per_second").text, show_duration_of(progress, "left_ms").text);
	if (json_is_object(progress))
		(void)putchar('\n');
	if (sync[0])
		(void)printf(FIELD "compares %s: %s\n", "sync", cli_status_extent(sync), sync);
	if (show_has(protection, "next_cut_in_ms"))
		(void)printf(FIELD "in %s\n", "next cut", show_duration_of(protection, "next_cut_in_ms").text);
}

static void print_source_disk(const char *protection, const json_t *disk)
{
	(void)printf("\n  disk %s: %s, %s dirty, clients: %s\n", show_text_of(disk, "name"), show_size_of(disk, "size_bytes").text,
		     show_size_of(disk, "dirty_bytes").text, show_integer_of(disk, "clients").text);
	(void)printf("    image  %s\n    uri    %s\n", show_text_of(disk, "path"), show_text_of(disk, "uri"));
	(void)printf("    reads %s (%s), writes %s (%s), flushes %s\n", show_integer_of(disk, "reads").text,
		     show_size_of(disk, "read_bytes").text, show_integer_of(disk, "writes").text,
		     show_size_of(disk, "written_bytes").text, show_integer_of(disk, "flushes").text);
	if (show_has(disk, "tracking_memory_bytes"))
		(void)printf("    tracking takes %s of memory\n", show_size_of(disk, "tracking_memory_bytes").text);
	if (show_text_of(disk, "error")[0])
		(void)printf("    ! %s\n", show_text_of(disk, "error"));
	if (show_flag_of(disk, "failed"))
		(void)printf("      no flush of it is promised: shut its guest down, repair its storage, then `kagami clear-error %s %s`\n", protection, show_text_of(disk, "name"));
	if (show_number_of(disk, "errors") > 1)
		(void)printf("      %s, the last one %s ago\n", show_count_of(disk, "errors", "error").text, show_duration_of(disk, "error_ms_ago").text);
	if (show_text_of(disk, "displaced")[0])
		(void)printf("    ! %s\n", show_text_of(disk, "displaced"));
	if (show_text_of(disk, "silent")[0])
		(void)printf("    ! %s\n", show_text_of(disk, "silent"));
	if (show_number_of(disk, "unproven_hole_bytes"))
		(void)printf("    holes that were believed and are still to be read: %s\n", show_size_of(disk, "unproven_hole_bytes").text);
	if (show_text_of(disk, "holes_disbelieved")[0])
		(void)printf("    ! no hole is believed: %s\n", show_text_of(disk, "holes_disbelieved"));
	if (show_flag_of(disk, "tracking_lost"))
		(void)printf("    ! tracking is lost: %s; mend the state directory and restart kagami-replicator, which compares the whole disk then\n", show_text_of(disk, "tracking_error"));
}

static void print_next_try(const json_t *protection)
{
	if (!show_has(protection, "retry_in_ms"))
		return;
	(void)printf(FIELD "in %s", "next try", show_duration_of(protection, "retry_in_ms").text);
	if (show_number_of(protection, "connect_failures"))
		(void)printf(", after %s that failed since the newest point", show_integer_of(protection, "connect_failures").text);
	(void)putchar('\n');
}

// What was the limit is told of a cycle that is under way: of one long ago it would send people looking for what is no more.
static void print_packing(const json_t *packing, bool under_way)
{
	if (!json_is_object(packing))
		return;
	const char *limit = show_text_of(packing, "limit");
	(void)printf(FIELD "%s", "packing", show_text_of(packing, "codec"));
	if (show_has(packing, "level"))
		(void)printf(" level %s", show_integer_of(packing, "level").text);
	if (!under_way) {
		(void)printf("\n");
		return;
	}
	(void)printf("; %s\n", strcmp(limit, "link") == 0 ? "the link is the limit" : strcmp(limit, "cores") == 0 ? "the cores are the limit" : "neither link nor cores are the limit");
}

void cli_status_print_source(const json_t *protection)
{
	const json_t *cycles = json_object_get(protection, "cycles");
	const json_t *disk;
	size_t i;
	print_state(protection, "source");
	print_objective(protection);
	(void)printf(FIELD "%s, %s\n", "site", show_text_of(protection, "site"),
		     show_flag_of(protection, "connected") ? "connected" : "NOT CONNECTED");
	print_next_try(protection);
	print_cycle_now(protection);
	(void)printf(FIELD "%s\n", "dirty", show_size_of(protection, "dirty_bytes").text);
	print_price(protection);
	print_text("needs a sync", show_text_of(protection, "needs_sync"));
	print_last_cycle(json_object_get(protection, "last_cycle"));
	print_text("last failure", show_text_of(protection, "last_error"));
	(void)printf(FIELD "%s started, %s committed\n", "cycles", show_integer_of(cycles, "started").text,
		     show_integer_of(cycles, "committed").text);
	(void)printf(FIELD "the newest %s are kept; codec %s, digest %s\n", "points", show_integer_of(protection, "points_keep").text,
		     show_text_of(protection, "codec"), show_text_of(protection, "digest"));
	print_packing(json_object_get(protection, "packing"), json_is_object(json_object_get(protection, "progress")));
	print_bandwidth(protection);
	print_clocks(protection);
	print_text("uuid", show_text_of(protection, "uuid"));
	json_array_foreach(json_object_get(protection, "disks"), i, disk)
		print_source_disk(show_text_of(protection, "name"), disk);
}

static void print_failover(const json_t *replica)
{
	const json_t *failover = json_object_get(replica, "failover"), *disk;
	size_t i;
	if (!json_is_object(failover) && cli_status_failed_over(replica))
		(void)printf(FIELD "cut short: the source is fenced, and there are no disks; ask again (kagami failover NAME), or take it back\n"
			     FIELD "(kagami failover NAME --rollback)\n", "failed over", "");
	if (!json_is_object(failover))
		return;
	const char *record = show_text_of(failover, "record_error");
	if (record[0])
		(void)printf(FIELD "to point %s; ! its record does not read, its disks are there: %s\n", "failed over", show_integer_of(failover, "point").text, record);
	else
		(void)printf(FIELD "to point %s, cut %s\n", "failed over", show_integer_of(failover, "point").text, show_time_of(failover, "cut").text);
	(void)printf(FIELD "%s%s written since; %s\n", "", record[0] ? "up to " : "", show_size_of(failover, "written_bytes").text,
		     show_flag_of(failover, "final") ? "committed: it is final" :
		     record[0]			     ? "keep it (kagami failover NAME --commit), or take it back with --rollback --discard-failover" :
						       "it can be taken back (kagami failover NAME --rollback)");
	if (show_has(failover, "rollback_late"))
		(void)printf(FIELD "! it is not taken back by itself, as it was to be: %s\n", "", show_text_of(failover, "rollback_late"));
	else if (show_has(failover, "rollback_in_ms"))
		(void)printf(FIELD "it is taken back by itself in %s, once no VM has its disks open\n", "",
			     show_duration_of(failover, "rollback_in_ms").text);
	json_array_foreach(json_object_get(failover, "disks"), i, disk)
		(void)printf("    %s  %s\n", show_text_of(disk, "name"), show_path_of(disk));
}

static void print_points(const json_t *replica)
{
	const json_t *policy = json_object_get(replica, "retention"), *unread = json_object_get(replica, "unread");
	const char *keep = show_text_of(policy, "keep");
	bool none = show_number_of(replica, "points") == 0 && points_broken(replica);
	if (!none)
		(void)printf(FIELD "%s; the newest %s are kept%s%s\n", "points", show_integer_of(replica, "points").text, show_integer_of(policy, "points").text,
			     keep[0] ? ", and " : "", keep);
	if (show_number_of(unread, "points"))
		(void)printf(FIELD "%s that cannot be used, the newest of them %s\n", none ? "points" : "", show_integer_of(unread, "points").text,
			     show_integer_of(unread, "newest").text);
	else if (none)
		(void)printf(FIELD "which there are is not known\n", "points");
}

// What is wrong with it, but for what its reason says already.
static void print_why(const json_t *replica)
{
	json_t *why = health_why(replica, true), *one;
	const char *reason = show_text_of(replica, "reason");
	size_t i;
	json_array_foreach(why, i, one)
		if (!reason[0] || !strstr(show_text_of(one, "text"), reason))
			(void)printf(FIELD "! %s\n", "", show_text_of(one, "text"));
	json_decref(why);
}

void cli_status_print_target(const json_t *replica)
{
	const json_t *disk, *verify;
	size_t i;
	print_state(replica, "target");
	print_why(replica);
	print_objective(replica);
	if (show_has(replica, "last_point"))
		(void)printf(FIELD "%s, cut %s\n", "last", show_integer_of(replica, "last_point").text,
			     show_time_of(replica, "last_cut").text);
	print_points(replica);
	(void)printf(FIELD "%s, and %s of the next point\n", "stored", show_size_of(replica, "stored_bytes").text,
		     show_size_of(replica, "head_bytes").text);
	if (show_has(replica, "quota_bytes"))
		(void)printf(FIELD "%s used of %s\n", "quota", show_size_of(replica, "used_bytes").text,
			     show_size_of(replica, "quota_bytes").text);
	json_array_foreach(json_object_get(replica, "disks"), i, disk)
		if (show_flag_of(disk, "doubted"))
			(void)printf(FIELD "the source lost track of disk %s, and compares it as a whole when it starts again\n", "doubt",
				     show_text_of(disk, "name"));
	const json_t *seed = json_object_get(replica, "seed");
	if (json_is_object(seed))
		(void)printf(FIELD "%s of %s read; the source is answered when all is\n", "seed", show_size_of(seed, "done_bytes").text,
			     show_size_of(seed, "total_bytes").text);
	print_clocks(replica);
	char scrub[CLI_SCRUB_LINE];
	cli_scrub_line(json_object_get(replica, "scrub"), scrub);
	(void)printf(FIELD "%s\n", "scrub", scrub);
	print_text("", show_text_of(json_object_get(replica, "scrub"), "error"));
	json_array_foreach(json_object_get(replica, "verifications"), i, verify) {
		char line[CLI_VERIFY_LINE];
		cli_verify_line(verify, line);
		print_text("verified", line);
	}
	print_failover(replica);
	print_text("owner", show_text_of(replica, "owner"));
	print_text("uuid", show_text_of(replica, "uuid"));
	json_array_foreach(json_object_get(replica, "disks"), i, disk)
		(void)printf(FIELD "%s, %s\n", "disk", show_text_of(disk, "name"), show_size_of(disk, "size_bytes").text);
}
