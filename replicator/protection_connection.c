// SPDX-License-Identifier: Apache-2.0
// A protection's connection: opened, greeted, asked where the receiver stands, watched while idle, and lost.
//
// Promises: what a lost connection carried is dirty again, or known to be a point, before anything new is sent (T1, T2 of
// protection_tracking.h).
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "replicator/greet.h"
#include "replicator/knock.h"
#include "replicator/site.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SEED_DAYS_MAX = 7 };	   // waited for so long, a seed that does not come is a failure: it is asked for even so
#define KNOCK_AGAIN_MS UINT64_C(50) // about: until others of this process are known to the receiver. Where that hangs, many ask again and again
// How often a fenced source asks whether the failover was taken back: so that it is back within its RPO of that, as far as it can be without asking all the time.
#define FENCED_ASK_MS_MIN UINT64_C(3000)
#define FENCED_ASK_MS_MAX UINT64_C(60000)

static void channel_set(struct protection *p, struct channel *channel)
{
	LOCK_SCOPE(&p->lock);
	p->channel = channel;
	p->greeted = false;
	if (channel && (p->stop || (p->paused && !p->telling))) // whoever said so while it connected found nothing to abort
		channel_abort(channel);
}

void connection_close(struct protection *p)
{
	struct channel *channel = p->channel;
	channel_set(p, NULL);
	channel_close(channel);
}

// Since when a seed is waited for; 0: none is, or there is a point already.
static int64_t seed_since(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	return p->position.point == 0 ? p->config.seed_since_wall_ns : 0;
}

static void seed_awaited(struct protection *p, const char *text)
{
	int64_t days = (env_wall_ns(p->place.env) - seed_since(p)) / (24 * 3600 * INT64_C(1000000000));
	char late[ERR_TEXT_MAX];
	(void)snprintf(late, sizeof(late), "for %lld days: %.*s, or go on without with `kagami resume %s --without-seed`", (long long)days,
		       ERR_TEXT_MAX - 160, text, p->config.name);
	if (days >= SEED_DAYS_MAX)
		protection_set_state(p, STATE_FAILED, late);
	else
		protection_set_state(p, STATE_SEED, text);
}

// What the receiver's refusal means for the protection.
static void refused(struct protection *p, enum wire_error code, const char *text)
{
	switch (code) {
	case WIRE_E_FENCED: {
		LOCK_SCOPE(&p->lock);
		account_fenced(p, true);
		break;
	}
	case WIRE_E_NO_SPACE:
		protection_set_state(p, STATE_TARGET_FULL, text);
		return;
	case WIRE_E_QUOTA:
		protection_set_state(p, STATE_QUOTA_REACHED, text);
		return;
	case WIRE_E_VERSION:
		protection_set_state(p, STATE_VERSION, text);
		return;
	case WIRE_E_SHUTDOWN:
		protection_set_state(p, STATE_TARGET_DOWN, text);
		return;
	case WIRE_E_SEED:
		seed_awaited(p, text);
		return;
	case WIRE_E_BUSY:
		if (seed_since(p)) { // the seed is there, and is read; it says how far
			protection_set_state(p, STATE_SEED, text);
			return;
		}
		protection_set_state(p, STATE_TARGET_SLOW, text);
		return;
	case WIRE_E_UNPAIRED:
	case WIRE_E_EXISTS:
	case WIRE_E_GEOMETRY:
		protection_set_state(p, STATE_FAILED, text);
		return;
	default:
		protection_set_state(p, p->fenced ? STATE_FENCED : STATE_CONNECTING, text);
		return;
	}
	protection_set_state(p, STATE_FENCED, text);
}

// What a connection that failed without a word says of the receiver.
static enum protection_state lost_state(const struct protection *p, int code)
{
	if (code == -EPROTONOSUPPORT)
		return STATE_VERSION;
	if (code == -ECONNREFUSED)
		return STATE_TARGET_DOWN;
	return code == -ETIMEDOUT && p->channel ? STATE_TARGET_SLOW : STATE_CONNECTING;
}

static uint64_t fenced_ask_ms(const struct protection *p)
{
	uint64_t half_ms = p->config.rpo_ms / 2;
	return half_ms < FENCED_ASK_MS_MIN ? FENCED_ASK_MS_MIN : min_u64(half_ms, FENCED_ASK_MS_MAX);
}

// Whether trying again is of no use until somebody acts; what makes the protection failed is told by that.
static bool until_somebody_acts(const struct wire_failure *failure, const struct err *err)
{
	const char *log = failure->code == WIRE_E_STORE ? strstr(failure->text, WIRE_SEE_LOG) : NULL;
	return (log && !log[strlen(WIRE_SEE_LOG)]) || (!failure->code && err->code == -EKEYREJECTED);
}

void connection_lost(struct protection *p, const struct wire_failure *failure, const struct err *err)
{
	enum protection_state state = lost_state(p, err->code);
	uint64_t now_ns = protection_now_ns(p);
	connection_close(p);
	if (failure->code)
		refused(p, failure->code, err->text);
	else if (!p->fenced) // fenced it stays until the receiver says otherwise
		protection_set_state(p, state, err->text);
	uint32_t random = protection_random(p);
	LOCK_SCOPE(&p->lock);
	if (p->telling && p->backoff.failures == 0)
		log_warning("the receiver was not told of the pause, which is tried again protection=%s: %s", p->config.name, err->text);
	p->stuck = until_somebody_acts(failure, err);
	backoff_failed(&p->backoff, now_ns, random);
	if (p->fenced)
		p->backoff.not_before_ns = now_ns + fenced_ask_ms(p) * MS_NS;
}

static void say_position(const struct protection *p, const struct wire_opened *opened)
{
	const char *why = uuid_equal(&p->position.last_cut, &p->nowhere)
				  ? "the state files name no cut, since the process before came to no point after something that is in no mark"
				  : "the receiver is at another point than known here";
	log_warning("%s: syncing by digests protection=%s known=%llu receiver=%llu", why, p->config.name, (unsigned long long)p->position.point,
		    (unsigned long long)opened->last_point);
}

// Where the receiver stands against what the dirty maps are relative to.
static void take_position(struct protection *p, const struct wire_opened *opened)
{
	bool pending = !uuid_is_zero(&p->position.pending_cut);
	int64_t cut_mono_ns = protection_mono_of(p, opened->last_cut_wall_ns);
	p->head = opened->head;
	if (pending && uuid_equal(&opened->last_cut, &p->position.pending_cut)) {
		log_info("the point whose answer was lost is committed protection=%s point=%llu", p->config.name,
			 (unsigned long long)opened->last_point);
		if (p->sealed_here && p->sync != SYNC_NONE)
			protection_found_committed(p, opened->last_point);
		p->position.last_cut_wall_ns = opened->last_cut_wall_ns;
		account_committed(p, opened->last_point, cut_mono_ns, 0, 0);
		protection_committed(p, opened->last_point, &opened->last_cut, p->sealed_here);
		schedule_found(&p->schedule, true, cut_mono_ns);
		return;
	}
	dirt_forget(p);
	source_give_back(p->source); // what the lost connection carried; nothing when it carried nothing
	protection_set_settled(p, true);
	memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	bool same = uuid_equal(&opened->last_cut, &p->position.last_cut);
	if (!same && p->position_known) {
		p->uncovered = true;
		source_mark_all(p->source);
		p->doubt.whole = UINT64_MAX;
		LOCK_SCOPE(&p->lock);
		p->sync = SYNC_POSITION;
		say_position(p, opened);
	}
	p->position.point = opened->last_point;
	p->position.last_cut = opened->last_cut;
	p->position.last_cut_wall_ns = opened->last_cut_wall_ns;
	LOCK_SCOPE(&p->lock);
	p->position_known = true;
	p->point = opened->last_point;
	p->has_point = opened->last_point > 0;
	p->point_unknown = false;
	p->point_cut_mono_ns = cut_mono_ns;
	schedule_found(&p->schedule, p->has_point, cut_mono_ns);
}

// They are no news by the next point: this says what a start in between would be told again.
static void note_damaged(struct protection *p, const struct wire_damaged *damaged)
{
	LOCK_SCOPE(&p->lock);
	memset(p->damaged_bytes, 0, sizeof(p->damaged_bytes));
	for (uint32_t i = 0; i < damaged->count; i++)
		p->damaged_bytes[damaged->run[i].disk] += damaged->run[i].count * BLOCK_SIZE;
}

// Blocks that a scrub at the receiver found damaged: they are sent whole with the next cycle, which is now. They are not marked in the state
// files: until a point holds them, the receiver names them whenever a session opens.
static void take_damaged(struct protection *p, const struct wire_damaged *damaged)
{
	uint64_t blocks = 0;
	note_damaged(p, damaged);
	if (damaged->count == 0)
		return;
	for (uint32_t i = 0; i < damaged->count; i++) {
		const struct wire_run *run = &damaged->run[i];
		source_mark(p->source, run->disk, run->first * BLOCK_SIZE, run->count * BLOCK_SIZE);
		blocks += run->count;
	}
	log_warning("blocks are damaged at the receiver, and are sent again protection=%s blocks=%llu", p->config.name,
		    (unsigned long long)blocks);
	LOCK_SCOPE(&p->lock);
	if (p->sync == SYNC_NONE)
		p->sync = SYNC_REPLICA_DAMAGED;
	p->again |= p->schedule.failures == 0; // else the target refused them just now: they wait for their turn
}

// Disks that a process before this one lost track of, and could not say so in their state files.
static void take_doubted(struct protection *p, const struct wire_doubted *doubted)
{
	uint64_t disks = doubt_hear(p, doubted);
	if (!disks)
		return;
	for (unsigned i = 0; i < p->config.disk_count; i++)
		if (disks >> i & 1) {
			source_mark(p->source, (uint16_t)i, 0, export_disk_size(p->export, (uint16_t)i));
			log_warning("the receiver was told that tracking was lost before this start: syncing by digests protection=%s disk=%s",
				    p->config.name, p->config.disk[i].name);
		}
	LOCK_SCOPE(&p->lock);
	if (!sync_reason_whole(p->sync)) // B5
		p->sync = SYNC_TRACKING_DOUBT;
	p->again |= p->schedule.failures == 0;
}

static void open_message(const struct protection *p, struct wire_open *ret_open)
{
	const struct protection_config *config = &p->config;
	memset(ret_open, 0, sizeof(*ret_open));
	ret_open->protection = config->uuid;
	ret_open->generation = config->generation;
	memcpy(ret_open->name, config->name, NAME_SIZE);
	ret_open->digest = config->digest;
	ret_open->codec = config->codec == CODEC_ZLIB ? CODEC_ZLIB : CODEC_ZSTD;
	ret_open->points_keep = config->points_keep;
	ret_open->rpo_ms = p->schedule.rpo_ns / MS_NS; // the thread's own
	ret_open->disk_count = config->disk_count;
	for (unsigned i = 0; i < config->disk_count; i++) {
		memcpy(ret_open->disk[i].name, config->disk[i].name, NAME_SIZE);
		ret_open->disk[i].size = export_disk_size(p->export, (uint16_t)i);
	}
}

static int open_session(struct protection *p, struct channel *channel, struct knock *knock, struct wire_failure *failure, struct err *err)
{
	struct wire_hello theirs;
	struct wire_open open;
	struct wire_opened opened;
	struct wire_damaged damaged;
	struct wire_doubted doubted;
	struct greet_clock clock;
	int rc = greet_clocks(channel, p->place.env, &theirs, &clock, err);
	knock_end(knock); // it has answered, so it knows who this is
	if (rc)
		return rc;
	p->features = theirs.features;
	p->reported_ns = p->clock_asked_ns = 0;
	settings_gate(p, channel);
	{
		LOCK_SCOPE(&p->lock);
		account_greeted(p, &clock);
	}
	open_message(p, &open);
	rc = seed_since(p) ? greet_seeded(channel, &theirs, err) : 0;
	if (rc)
		return rc;
	rc = greet_open(channel, &theirs, &open, &opened, &damaged, &doubted, failure, err);
	if (rc)
		return rc;
	take_position(p, &opened);
	take_doubted(p, &doubted);
	take_damaged(p, &damaged);
	return 0;
}

static int load_site(struct protection *p, struct site *ret_site, struct err *err)
{
	STATE_LOOK_SCOPE(p);
	return site_load(p->place.state, p->config.site, ret_site, err);
}

void connection_open(struct protection *p)
{
	struct err err = {0};
	struct wire_failure failure = {.code = 0};
	struct channel *channel = NULL;
	struct site site;
	struct knock knock = {0};
	{
		LOCK_SCOPE(&p->lock);
		p->hurry = false;
	}
	if (p->state == STATE_STARTING || p->state == STATE_PAUSED)
		protection_set_state(p, STATE_CONNECTING, "");
	int rc = load_site(p, &site, &err);
	if (rc == 0)
		doubt_set_site(p, &site);
	if (rc == 0 && !knock_begin(&knock, site.address)) {
		uint64_t again_ns = protection_now_ns(p) + (KNOCK_AGAIN_MS + protection_random(p) % KNOCK_AGAIN_MS) * MS_NS;
		LOCK_SCOPE(&p->lock);
		p->backoff.not_before_ns = again_ns;
		return;
	}
	if (rc == 0)
		rc = channel_connect(p->tls, site.address, &site.pin, &channel, &err);
	if (rc == 0) {
		channel_set(p, channel);
		rc = open_session(p, channel, &knock, &failure, &err);
	}
	knock_end(&knock);
	if (rc) {
		connection_lost(p, &failure, &err);
		return;
	}
	p->heard_ns = p->pinged_ns = protection_now_ns(p);
	{
		LOCK_SCOPE(&p->lock);
		p->greeted = true;
		p->stuck = false;
		account_fenced(p, false); // the failover was taken back
		account_opened(p);
	}
	if (!protection_refused_for_space(p))
		protection_set_state(p, STATE_IDLE, "");
}

// What an idle connection has to say, and a sign of life to it. False when it is lost.
bool connection_check(struct protection *p)
{
	struct err err = {0};
	struct wire_failure failure = {.code = 0};
	struct wire_frame frame;
	int rc;
	while ((rc = channel_get(p->channel, 0, &frame, &err)) == 1) {
		p->heard_ns = protection_now_ns(p);
		if (frame.type == WIRE_ERROR && wire_get_error(&frame, &failure) == 0)
			rc = err_set(&err, -EREMOTEIO, "%s", failure.text);
		else if (!channel_notes(p->channel, &frame)) // ACK: of a cycle that was given up
			rc = err_set(&err, -EBADMSG, "%s came while idle", wire_type_name(frame.type));
		if (rc < 0)
			break;
	}
	report_hear(p);
	uint64_t now = protection_now_ns(p);
	if (channel_moves(p->channel)) // if only a part of a frame
		p->heard_ns = now;
	if (rc == 0 && now - p->heard_ns > CHANNEL_STALL_MS * MS_NS)
		rc = err_set(&err, -ETIMEDOUT, "the receiver has been silent for %d s", CHANNEL_STALL_MS / 1000);
	if (rc == 0 && now - p->pinged_ns >= CHANNEL_PING_MS * MS_NS) {
		void *to = channel_room(p->channel, WIRE_HEADER_SIZE);
		if (to)
			(void)channel_put(p->channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PING));
		rc = channel_flush(p->channel, &err);
		p->pinged_ns = now;
	}
	if (rc < 0)
		connection_lost(p, &failure, &err);
	return rc == 0;
}
