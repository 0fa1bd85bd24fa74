// SPDX-License-Identifier: Apache-2.0
// Time, tasks and hosts: what happens next, and on which stack.
//
// The world's clock is the later of the events' and the hosts' own: each operation of a simulated disk takes a microsecond of its host.
// A host that died has everything that still runs on it woken; its disk answers -ESHUTDOWN and its connections -ECONNRESET, so that
// all of it comes to its end by the program's own error paths, without time passing. Then it may boot.
#include "tests/world/world.h"

#include "tests/lib/twin.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event {
	uint64_t at_ns, order;
	void (*run)(void *context, uint64_t value);
	void *context;
	uint64_t value;
};

struct world *the_world;
static struct event *heap;
static size_t heap_count, heap_room;
static uint64_t heap_order;
static struct task *tasks, *task_running;

uint64_t world_draw(uint64_t end)
{
	return draw_below(&the_world->draws, end);
}

bool world_one_in(uint64_t n)
{
	return world_draw(n) == 0;
}

void world_wrong(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)fflush(stdout);
	(void)fprintf(stdout, "# SEED=%llu, at %llu.%06llu s: ", (unsigned long long)the_world->seed,
		      (unsigned long long)(the_world->now_ns / WORLD_S), (unsigned long long)(the_world->now_ns % WORLD_S / 1000));
	(void)vfprintf(stdout, fmt, args);
	(void)fprintf(stdout, "\n# again: %sSEED=%llu build/tests/unit/test_simulation\n", the_world->calm ? "CALM=1 " : "", (unsigned long long)the_world->seed);
	va_end(args);
	(void)fflush(stdout);
	_Exit(1); // from whatever stack this is
}

void world_note(const char *fmt, ...)
{
	va_list args;
	if (!the_world->verbose)
		return;
	va_start(args, fmt);
	(void)fprintf(stderr, "%10.6f  ", (double)the_world->now_ns / 1e9);
	(void)vfprintf(stderr, fmt, args);
	(void)fputc('\n', stderr);
	va_end(args);
}

// ---- events

static bool sooner(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
	struct event e = heap[a];
	heap[a] = heap[b];
	heap[b] = e;
}

void world_at(uint64_t at_ns, void (*run)(void *context, uint64_t value), void *context, uint64_t value)
{
	if (heap_count == heap_room) {
		heap_room = heap_room ? 2 * heap_room : 256;
		heap = realloc(heap, heap_room * sizeof(*heap));
		assert(heap);
	}
	heap[heap_count] = (struct event){at_ns, heap_order++, run, context, value};
	for (size_t i = heap_count++; i && sooner(&heap[i], &heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static struct event heap_take(void)
{
	struct event first = heap[0];
	heap[0] = heap[--heap_count];
	for (size_t i = 0;;) {
		size_t least = i;
		for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < heap_count; c++)
			if (sooner(&heap[c], &heap[least]))
				least = c;
		if (least == i)
			return first;
		swap(i, least);
		i = least;
	}
}

// ---- tasks

static void task_main(void *context)
{
	struct task *task = context;
	task->run(task->context);
}

static void task_step(struct task *task)
{
	task->asleep = false;
	task_running = task;
	fiber_resume(task->fiber);
	task_running = NULL;
	if (fiber_ended(task->fiber)) {
		fiber_free(task->fiber);
		task->fiber = NULL; // the task stays: timers name it
	}
}

static void on_timer(void *context, uint64_t turn)
{
	struct task *task = context;
	if (task->fiber && task->asleep && task->turn == turn)
		task_step(task);
}

struct task *task_start(struct host *host, void (*run)(void *context), void *context)
{
	struct task *task = calloc(1, sizeof(*task));
	assert(task);
	*task = (struct task){.host = host, .run = run, .context = context, .asleep = true, .next = tasks};
	task->fiber = fiber_new(task_main, task);
	tasks = task;
	world_at(the_world->now_ns, on_timer, task, task->turn);
	return task;
}

struct task *task_self(void)
{
	return task_running;
}

void task_sleep(uint64_t until_ns)
{
	struct task *task = task_running;
	assert(task && task->fiber == fiber_self());
	task->turn++;
	task->asleep = true;
	if (until_ns != UINT64_MAX)
		world_at(until_ns > the_world->now_ns ? until_ns : the_world->now_ns, on_timer, task, task->turn);
	fiber_yield();
}

void task_wake(struct task *task)
{
	if (task && task->asleep && task->fiber)
		world_at(the_world->now_ns, on_timer, task, task->turn);
}

bool task_ended(const struct task *task)
{
	return !task->fiber;
}

// ---- hosts

uint64_t host_mono_ns(const struct host *host)
{
	return host->boot_ns + env_mono_ns(sim_env(host->sim));
}

void host_clock(struct host *host)
{
	if (sim_is_off(host->sim))
		return;
	uint64_t now = host_mono_ns(host);
	if (now < the_world->now_ns)
		sim_clock_advance(host->sim, the_world->now_ns - now);
	else
		the_world->now_ns = now;
}

static void rearm(struct host *host)
{
	sim_halt_at(host->sim, host->halt_op);
	sim_fail_at(host->sim, host->fail_op, host->fail_code, false);
	sim_fail_under(host->sim, host->state_dead ? "/state" : NULL);
}

void host_oracle_begin(struct host *host)
{
	assert(!host->dead);
	host->oracle_ops = sim_ops(host->sim);
	sim_halt_at(host->sim, SIM_NEVER);
	sim_fail_at(host->sim, SIM_NEVER, -EIO, false);
	sim_fail_under(host->sim, NULL);
}

void host_oracle_end(struct host *host)
{
	uint64_t ops = sim_ops(host->sim) - host->oracle_ops;
	if (host->halt_op != SIM_NEVER)
		host->halt_op += ops;
	if (host->fail_op != SIM_NEVER)
		host->fail_op += ops;
	rearm(host);
}

void host_arm(struct host *host, uint64_t ops, bool power)
{
	if (host->dead)
		return;
	host->killed = !power;
	host->halt_op = sim_ops(host->sim) + ops;
	rearm(host);
}

void host_fail(struct host *host, uint64_t ops, int code)
{
	if (host->dead)
		return;
	host->fail_op = sim_ops(host->sim) + ops;
	host->fail_code = code;
	rearm(host);
}

void host_state_dies(struct host *host, bool dies)
{
	host->state_dead = dies;
	if (!host->dead)
		rearm(host);
}

void host_disarm(struct host *host)
{
	host->halt_op = host->fail_op = SIM_NEVER;
	if (!host->dead)
		rearm(host);
}

static void host_died(struct host *host)
{
	struct world *w = the_world;
	bool source = host == &w->source;
	host->dead = true;
	host->life++;
	host->halt_op = host->fail_op = SIM_NEVER;
	host->state_dead = false;
	if (host->killed)
		world_happened(source ? FAULT_KILL_SOURCE : FAULT_KILL_RECEIVER);
	else
		world_happened(source ? FAULT_POWER_SOURCE : FAULT_POWER_RECEIVER);
	world_note("%s %s", host->name, host->killed ? "is killed" : "loses its power");
	link_host_died(host);
	if (source)
		export_host_died();
	for (struct task *t = tasks; t; t = t->next)
		if (t->host == host)
			task_wake(t);
}

void host_end(struct host *host, bool power)
{
	if (host->dead)
		return;
	host->killed = !power;
	sim_halt_at(host->sim, sim_ops(host->sim)); // whatever still tries
	host_died(host);
}

void host_boot(struct host *host)
{
	struct world *w = the_world;
	assert(host->dead);
	if (!sim_is_off(host->sim))
		sim_halt_at(host->sim, SIM_NEVER);
	if (!host->killed) {
		uint64_t away_ns = w->now_ns - min_u64(host_mono_ns(host), w->now_ns);
		sim_power_off(host->sim);
		sim_clock_step(host->sim, (int64_t)away_ns); // the wall clock has a battery
		chooser_draw(&host->chooser, 0, draw(&w->draws));
		host->boot_ns = w->now_ns;
		sim_power_on(host->sim);
	} else {
		sim_power_on(host->sim);
		sim_kill(host->sim);
	}
	host->dead = false;
	host->killed = false;
	rearm(host);
	host_clock(host);
	world_note("%s boots", host->name);
}

// ---- the world goes on

static void free_tasks(void)
{
	while (tasks) {
		struct task *task = tasks;
		tasks = task->next;
		free(task);
	}
}

// An I/O error that waited has come.
static void host_failed(struct host *host)
{
	if (host->fail_op == SIM_NEVER || sim_ops(host->sim) <= host->fail_op)
		return;
	host->fail_op = SIM_NEVER;
	world_happened(host == &the_world->source ? FAULT_IO_SOURCE : FAULT_IO_RECEIVER);
}

static void step(void)
{
	struct world *w = the_world;
	struct event e = heap_take();
	w->now_ns = max_u64(w->now_ns, e.at_ns);
	host_clock(&w->source);
	host_clock(&w->receiver);
	w->did.events++;
	e.run(e.context, e.value);
	host_failed(&w->source);
	host_failed(&w->receiver);
	if (sim_is_off(w->source.sim) && !w->source.dead)
		host_died(&w->source);
	if (sim_is_off(w->receiver.sim) && !w->receiver.dead)
		host_died(&w->receiver);
	oracle_poll();
}

void world_run_until(uint64_t at_ns)
{
	while (heap_count && heap[0].at_ns <= at_ns)
		step();
	the_world->now_ns = max_u64(the_world->now_ns, at_ns);
}

static void **kept;
static size_t kept_count;

void world_keep(void *memory)
{
	kept = realloc((void *)kept, (kept_count + 1) * sizeof(*kept));
	assert(kept);
	kept[kept_count++] = memory;
}

static void host_begin(struct host *host, const char *name, uint64_t seed)
{
	*host = (struct host){.name = name, .sim = sim_new(seed), .halt_op = SIM_NEVER, .fail_op = SIM_NEVER, .fail_code = -EIO};
	chooser_init(&host->chooser);
	chooser_draw(&host->chooser, 0, seed);
	sim_set_chooser(host->sim, &host->chooser);
}

void world_begin(uint64_t seed)
{
	struct world *w = the_world;
	w->seed = seed;
	w->draws = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	if (seed % 2) { // a large disk of somebody's has all that small ones would be exact with
		int rc = dirty_init(&w->others, (uint64_t)2 * DIRTY_SPARE * REGION_SIZE);
		assert(rc == 0);
		dirty_reserve(&w->others);
	}
	host_begin(&w->source, "the source", draw(&w->draws));
	host_begin(&w->receiver, "the receiver", draw(&w->draws));
}

void world_end(void)
{
	struct world *w = the_world;
	for (struct task *t = tasks; t; t = t->next)
		if (t->fiber)
			world_wrong("a task of %s does not end", t->host->name);
	heap_count = heap_order = 0;
	while (kept_count)
		free(kept[--kept_count]);
	free_tasks();
	link_end_all();
	chooser_done(&w->source.chooser);
	chooser_done(&w->receiver.chooser);
	sim_free(w->source.sim);
	sim_free(w->receiver.sim);
	dirty_done(&w->others);
}
