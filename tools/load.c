// SPDX-License-Identifier: Apache-2.0
// kagami-load: many protections at once against one receiver, over the real protocol. It connects them all, and then measures
// in phases:
//
//	idle      none is active: what connections cost
//	alone     one session makes small cycles (one block), nobody else is active
//	equal     --active sessions make --cycles cycles of --blocks blocks each
//	probe     one makes small cycles while the other --active - 1 are busy without an end
//	after     idle again: what the receiver gives back
//
// What "no session delays another" means here: of equal sessions none is slower than the mean by much (equal), and one that asks for
// little is not made to wait longer than the turn that each gets anyway (probe). Both are ratios of times in one run.
#include "base/auto.h"
#include "base/standard.h"
#include "tools/load_options.h"
#include "tools/load_report.h"
#include "tools/load_worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

enum { SAMPLE_MS = 50, IDLE_MS = 1000, EXIT_UNFAIR = 3 };

struct load {
	struct load_options options;
	struct env_root *keys;
	struct load_contents *contents;
	struct load_source source[LOAD_SOURCES_MAX];
	struct load_worker *worker;
	struct load_team team;
	struct load_report report;
};

// --- phases ---

static int sample(struct load *load, struct load_phase *phase, struct err *err)
{
	struct load_usage seen;
	if (!load->report.watched)
		return 0;
	int rc = load_usage_of((pid_t)load->options.pid, &seen, err);
	if (rc == 0)
		load_usage_most(&phase->usage, &seen);
	return rc;
}

// Until at most `busy` workers are.
static int watch(struct load *load, struct load_phase *phase, unsigned busy, struct err *err)
{
	int rc = 0;
	while (rc == 0 && !load_team_wait(&load->team, busy, SAMPLE_MS))
		rc = sample(load, phase, err);
	return rc ? rc : sample(load, phase, err);
}

// The times of workers [first, end), of cycles or of commits.
static int times_of(const struct load *load, unsigned first, unsigned end, bool commits, struct load_times *ret_times)
{
	size_t count = 0, n = 0;
	for (unsigned i = first; i < end; i++)
		count += load->worker[i].cycle_count;
	AUTO_FREE uint64_t *ns = calloc(count + 1, sizeof(*ns));
	if (!ns)
		return -ENOMEM;
	for (unsigned i = first; i < end; i++)
		for (uint64_t c = 0; c < load->worker[i].cycle_count; c++)
			ns[n++] = commits ? load->worker[i].cycles[c].commit_ns : load->worker[i].cycles[c].whole_ns;
	*ret_times = load_times_of(ns, count);
	return 0;
}

// What workers [0, sessions) did; the figures of time are of [first, end).
static int phase_sum(struct load *load, struct load_phase *phase, unsigned first, unsigned end, struct err *err)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < phase->sessions; i++) {
		const struct load_worker *w = &load->worker[i];
		if (w->failed)
			return err_set(err, w->err.code, "%s", w->err.text);
		phase->slowest_ns = max_u64(phase->slowest_ns, w->took_ns);
		sum += w->took_ns;
		phase->points += w->cycle_count;
		for (uint64_t c = 0; c < w->cycle_count; c++) {
			phase->blocks_sent += w->cycles[c].blocks;
			phase->stored_bytes += w->cycles[c].stored_bytes;
		}
	}
	phase->mean_ns = phase->sessions ? sum / phase->sessions : 0;
	if (times_of(load, first, end, false, &phase->cycle) || times_of(load, first, end, true, &phase->commit))
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static struct load_phase *phase_new(struct load *load, const char *name, unsigned sessions, uint64_t blocks)
{
	struct load_phase *phase = &load->report.phase[load->report.phases++];
	*phase = (struct load_phase){.name = name, .sessions = sessions, .blocks = blocks, .took_ns = env_mono_ns(env_posix())};
	return phase;
}

static int phase_idle(struct load *load, const char *name, struct err *err)
{
	struct load_phase *phase = phase_new(load, name, 0, 0);
	(void)load_team_wait(&load->team, 0, 0);
	struct timespec pause = {.tv_sec = IDLE_MS / 1000};
	(void)nanosleep(&pause, NULL);
	phase->took_ns = env_mono_ns(env_posix()) - phase->took_ns;
	return sample(load, phase, err);
}

static int phase_equal(struct load *load, const char *name, unsigned sessions, uint64_t blocks, struct err *err)
{
	struct load_phase *phase = phase_new(load, name, sessions, blocks);
	const struct load_job job = {load->options.cycles, blocks, load->options.interval_ms};
	for (unsigned i = 0; i < sessions; i++)
		load_team_give(&load->team, i, &job);
	int rc = watch(load, phase, 0, err);
	phase->took_ns = env_mono_ns(env_posix()) - phase->took_ns;
	return rc ? rc : phase_sum(load, phase, 0, sessions, err);
}

// Worker 0 is the one that asks for little.
static int phase_probe(struct load *load, struct err *err)
{
	unsigned sessions = (unsigned)load->options.active;
	struct load_phase *phase = phase_new(load, "probe", sessions, 1);
	const struct load_job busy = {0, load->options.blocks, load->options.interval_ms}, small = {load->options.cycles, 1, 0};
	struct load_times turns = {0};
	for (unsigned i = 1; i < sessions; i++)
		load_team_give(&load->team, i, &busy);
	load_team_give(&load->team, 0, &small);
	int rc = watch(load, phase, sessions - 1, err);
	load_team_stop(&load->team);
	if (rc == 0)
		rc = watch(load, phase, 0, err);
	phase->took_ns = env_mono_ns(env_posix()) - phase->took_ns;
	if (rc == 0)
		rc = phase_sum(load, phase, 0, 1, err);
	if (rc == 0 && times_of(load, 1, sessions, false, &turns))
		rc = err_set(err, -ENOMEM, "out of memory");
	if (turns.mean_ns)
		load->report.small_share = (double)phase->cycle.p99_ns / (double)turns.mean_ns;
	return rc;
}

static int measure(struct load *load, struct err *err)
{
	unsigned active = (unsigned)load->options.active;
	int rc = phase_idle(load, "idle", err);
	if (rc == 0)
		rc = phase_equal(load, "alone", 1, 1, err);
	if (rc == 0)
		rc = phase_equal(load, "equal", active, load->options.blocks, err);
	if (rc)
		return rc;
	const struct load_phase *equal = &load->report.phase[2];
	load->report.slowest_share = (double)equal->slowest_ns / (double)equal->mean_ns;
	rc = phase_probe(load, err);
	return rc ? rc : phase_idle(load, "after", err);
}

// --- setting up ---

static int sources_pair(struct load *load, struct err *err)
{
	int rc = env_root_open(env_posix(), load->options.keys, &load->keys);
	if (rc)
		return err_sys(err, rc, "open the directory %s", load->options.keys);
	if (load_contents_new(&load->contents))
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; rc == 0 && i < load->options.sources; i++)
		rc = load_pair(load->keys, i, load->options.token[i], &load->source[i], err);
	return rc ? err_wrap(err, "pair") : 0;
}

static int connect_all(struct load *load, struct err *err)
{
	const struct load_options *o = &load->options;
	uint64_t began_ns = env_mono_ns(env_posix());
	int rc = 0;
	load->worker = calloc(o->protections, sizeof(*load->worker));
	if (!load->worker)
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; rc == 0 && i < o->protections; i++) {
		char name[NAME_SIZE];
		(void)snprintf(name, sizeof(name), "%s-%u", o->name, i + 1);
		struct load_client *client = &load->worker[i].client;
		rc = load_client_init(client, &load->source[i % o->sources], load->contents, name, o->disk_size,
				      (uint32_t)o->points, err);
		if (rc == 0)
			rc = load_client_connect(client, err);
	}
	load->report.connect_ns = env_mono_ns(env_posix()) - began_ns;
	return rc;
}

static int load_run(struct load *load, struct err *err)
{
	const struct load_options *o = &load->options;
	load->report = (struct load_report){
		.protections = (unsigned)o->protections, .sources = (unsigned)o->sources, .watched = o->pid != 0};
	int rc = sources_pair(load, err);
	if (rc == 0)
		rc = connect_all(load, err);
	if (rc)
		return rc;
	rc = load_team_start(&load->team, load->worker, (unsigned)o->protections, err);
	if (rc == 0)
		rc = measure(load, err);
	load_team_stop(&load->team);
	load_team_done(&load->team);
	return rc;
}

static void load_done(struct load *load)
{
	for (unsigned i = 0; load->worker && i < load->options.protections; i++) {
		load_client_close(&load->worker[i].client);
		free(load->worker[i].cycles);
	}
	for (unsigned i = 0; i < load->options.sources; i++)
		load_source_done(&load->source[i]);
	free(load->worker);
	free(load->contents);
	env_root_close(load->keys);
}

static void prepare_process(void)
{
	struct rlimit files;
	(void)signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int print_json(const struct load_report *report)
{
	json_t *json = load_report_json(report);
	int rc = json_dumpf(json, stdout, JSON_INDENT(2));
	json_decref(json);
	return rc;
}

// 3 when a session waited for the others for longer than --fair has it.
static int judge(const struct load *load)
{
	double worst = load->report.slowest_share > load->report.small_share ? load->report.slowest_share : load->report.small_share;
	if (!load->options.fair_percent || worst * 100 <= (double)load->options.fair_percent)
		return 0;
	(void)fprintf(stderr, "kagami-load: a session was delayed to %.2f of its turn, where --fair allows %.2f\n", worst, (double)load->options.fair_percent / 100);
	return EXIT_UNFAIR;
}

int main(int argc, char **argv)
{
	standard_descriptors();
	static struct load load;
	struct err err = {0};
	load_options_read(&load.options, argc, argv);
	prepare_process();
	int rc = load_run(&load, &err);
	if (rc)
		(void)fprintf(stderr, "kagami-load: %s\n", err.text);
	else if (load.options.json)
		rc = print_json(&load.report);
	else
		load_report_print(&load.report);
	int status = rc ? 1 : judge(&load);
	load_done(&load);
	return status;
}
