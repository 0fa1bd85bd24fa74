// SPDX-License-Identifier: Apache-2.0
#include "receiver/scrubber.h"

#include "base/log.h"
#include "base/size.h"
#include "base/worker.h"
#include "link/events.h"

#include <errno.h>

#define NS_PER_S UINT64_C(1000000000)
#define DAY_NS INT64_C(86400000000000)
enum { IDLE_S = 30, BUSY_S = 1, FAILED_S = 60 };

struct scrubber {
	struct env *env;
	struct store *store;
	struct scrubber_config config;
	struct worker worker;
};

// --- a step ---

unsigned scrubber_waits(const struct scrubber_config *config, const struct scrub_info *info, int64_t wall_ns)
{
	if (!config->has_window || (info->open && info->asked) || info->suspect)
		return 0;
	const struct bandwidth_time local = bandwidth_local(wall_ns);
	return bandwidth_window_opens(&config->window, &local);
}

// Told once: then the window is too short for the rate, or the rate for what there is.
static void tell_late(struct replica *replica, const struct scrub_info *info, const struct scrubber_config *config)
{
	struct replica_info of;
	if (!scrub_tell_late(replica))
		return;
	replica_info(replica, &of);
	event_emit(EVENT_WARNING, "state", of.name, NULL, "the scrub of %s has not come to its end within %d days: it needs a higher --scrub-rate%s", of.name,
		   (int)(config->interval_ns / DAY_NS), config->has_window ? ", or a longer --offpeak window" : "");
	log_warning("a scrub is late protection=%s done_bytes=%llu of=%llu", of.name, (unsigned long long)info->done_bytes, (unsigned long long)info->total_bytes);
}

static void begin_what_is_due(struct env *env, struct store *store, const struct scrubber_config *config)
{
	struct replica *replica;
	for (size_t n = 0; config->interval_ns && (replica = store_at(store, n)); n++) {
		struct scrub_info info;
		struct err err = {0};
		int64_t now_ns = env_wall_ns(env);
		scrub_info(replica, &info);
		if (scrub_is_late(&info, now_ns, config->interval_ns))
			tell_late(replica, &info, config);
		if (!scrub_is_due(&info, now_ns, config->interval_ns) || scrubber_waits(config, &info, now_ns))
			continue;
		int rc = scrub_begin_due(replica, config->rate, &err);
		if (rc && rc != -ENOENT && rc != -EIO) // no point yet, or broken, which is told elsewhere
			log_warning("a scrub that is due cannot begin: %s", err.text);
	}
}

// Whether the pass may go on now; when that changes, the replica hears of it.
static bool may_go_on(struct env *env, struct replica *replica, const struct scrubber_config *config, const struct scrub_info *info)
{
	struct err err = {0};
	bool held = scrubber_waits(config, info, env_wall_ns(env)) != 0;
	if (scrub_hold(replica, held, &err))
		log_warning("the position of a scrub that waits for its window could not be saved: %s", err.text);
	return !held;
}

// The next replica with a pass that may go on, from *cursor on and around; NULL when none has one.
static struct replica *choose(struct env *env, struct store *store, const struct scrubber_config *config, size_t *cursor, struct scrub_info *ret_info)
{
	size_t count = 0;
	while (store_at(store, count))
		count++;
	for (size_t i = 0; i < count; i++) {
		size_t at = (*cursor + i) % count;
		struct replica *replica = store_at(store, at);
		if (!replica || scrub_rests(replica))
			continue;
		scrub_info(replica, ret_info);
		if (!ret_info->open || !may_go_on(env, replica, config, ret_info))
			continue;
		*cursor = at + 1;
		return replica;
	}
	return NULL;
}

uint64_t scrubber_step(struct env *env, struct store *store, const struct scrubber_config *config, size_t *cursor)
{
	struct scrub_info info;
	struct scrub_step step;
	struct err err = {0};
	uint64_t began_ns = env_mono_ns(env);
	begin_what_is_due(env, store, config);
	struct replica *replica = choose(env, store, config, cursor, &info);
	if (!replica)
		return IDLE_S * NS_PER_S;
	int rc = scrub_slice(replica, &step, &err);
	if (rc == -EAGAIN)
		return BUSY_S * NS_PER_S;
	if (rc && rc != -ENODATA) {
		log_warning("a scrub does not come on: %s", err.text);
		scrub_rest(replica, FAILED_S * NS_PER_S);
		return 0; // the others do
	}
	uint64_t due_ns = rc ? 0 : step.bytes * NS_PER_S / info.rate, took_ns = env_mono_ns(env) - began_ns; // a slice is below 1 TiB
	return due_ns > took_ns ? due_ns - took_ns : 0;
}

// --- the thread ---

// What is asked for begins at once; but a wake-up while a rate is kept must not break it, so only an idle wait ends by one.
static bool wait_for(struct scrubber *scrubber, uint64_t ns)
{
	return worker_wait(&scrubber->worker, ns, ns >= IDLE_S * NS_PER_S ? WORKER_WAKES : WORKER_RESTS);
}

static void positions_save(struct scrubber *scrubber)
{
	struct replica *replica;
	for (size_t n = 0; (replica = store_at(scrubber->store, n)); n++) {
		struct err err = {0};
		if (scrub_save(replica, &err))
			log_warning("the position of a scrub could not be saved: %s", err.text);
	}
}

static void *scrubber_thread(void *context)
{
	struct scrubber *scrubber = context;
	size_t cursor = 0;
	while (wait_for(scrubber, scrubber_step(scrubber->env, scrubber->store, &scrubber->config, &cursor)))
		;
	positions_save(scrubber);
	return NULL;
}

int scrubber_start(struct env *env, struct store *store, const struct scrubber_config *config, struct scrubber **ret_scrubber,
		   struct err *err)
{
	struct scrubber *scrubber = calloc(1, sizeof(*scrubber));
	if (!scrubber)
		return err_sys(err, -ENOMEM, "start the scrubber");
	scrubber->env = env;
	scrubber->store = store;
	scrubber->config = *config;
	int rc = worker_start(&scrubber->worker, "kagami-scrubber", scrubber_thread, scrubber);
	if (rc) {
		free(scrubber);
		return err_sys(err, rc, "start the scrubber");
	}
	*ret_scrubber = scrubber;
	return 0;
}

const struct scrubber_config *scrubber_config(const struct scrubber *scrubber)
{
	return &scrubber->config;
}

void scrubber_wake(struct scrubber *scrubber)
{
	if (scrubber)
		worker_wake(&scrubber->worker);
}

void scrubber_stop(struct scrubber *scrubber)
{
	if (!scrubber)
		return;
	worker_stop(&scrubber->worker);
	free(scrubber);
}
