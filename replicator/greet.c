// SPDX-License-Identifier: Apache-2.0
#include "replicator/greet.h"

#include <errno.h>

static int broken(struct channel *channel, struct err *err)
{
	int rc = channel_flush(channel, err);
	return rc ? rc : err_set(err, -EMSGSIZE, "a message does not fit into its frame");
}

static int64_t within(__int128 offset_ns)
{
	return offset_ns > WIRE_CLOCK_OFFSET_MAX    ? WIRE_CLOCK_OFFSET_MAX
	       : offset_ns < -WIRE_CLOCK_OFFSET_MAX ? -WIRE_CLOCK_OFFSET_MAX
						    : (int64_t)offset_ns;
}

int64_t greet_offset_less(int64_t offset_ns, int64_t step_ms)
{
	return within((__int128)offset_ns - (__int128)step_ms * 1000000);
}

struct greet_clock greet_clock_better(struct greet_clock known, struct greet_clock again)
{
	__int128 apart = (__int128)again.offset_ns - known.offset_ns;
	__int128 doubt = (__int128)again.error_ns + known.error_ns;
	bool both = apart <= doubt && apart >= -doubt;
	return both && known.error_ns <= again.error_ns ? known : again;
}

struct greet_clock greet_clock_of(int64_t sent_wall_ns, uint64_t round_trip_ns, int64_t their_wall_ns)
{
	uint64_t half_ns = round_trip_ns / 2 + round_trip_ns % 2;
	return (struct greet_clock){.offset_ns = within((__int128)their_wall_ns - sent_wall_ns - (__int128)(round_trip_ns / 2)),
				    .error_ns = min_u64(half_ns, WIRE_CLOCK_OFFSET_MAX)};
}

int greet(struct channel *channel, struct wire_hello *ret_theirs, struct err *err)
{
	struct greet_clock clock;
	return greet_clocks(channel, env_posix(), ret_theirs, &clock, err);
}

int greet_clocks(struct channel *channel, struct env *env, struct wire_hello *ret_theirs, struct greet_clock *ret_clock, struct err *err)
{
	struct wire_hello own = {
		.major = WIRE_MAJOR,
		.minor = WIRE_MINOR,
		.wall_ns = env_wall_ns(env),
		.features = WIRE_FEATURE_DAMAGED | WIRE_FEATURE_ACK | WIRE_FEATURE_NODES | WIRE_FEATURE_BLAKE2B | WIRE_FEATURE_PIECES |
			    WIRE_FEATURE_REPORT | WIRE_FEATURE_DOUBT | WIRE_FEATURE_GOODBYE | WIRE_FEATURE_CLOCK,
		.program = "kagami-replicator",
	};
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (!to || channel_put(channel, wire_put_hello(to, WIRE_FRAME_MAX, &own)))
		return broken(channel, err);
	struct wire_frame frame;
	struct wire_failure failure;
	uint64_t sent_ns = env_mono_ns(env); // a clock that is set meanwhile does not enter
	int rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_HELLO, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc)
		return rc;
	if (wire_get_hello(&frame, ret_theirs))
		return err_set(err, -EBADMSG, "the receiver's HELLO is not one of ours");
	*ret_clock = greet_clock_of(own.wall_ns, env_mono_ns(env) - sent_ns, ret_theirs->wall_ns);
	if (ret_theirs->major != WIRE_MAJOR)
		return err_set(err, -EPROTONOSUPPORT, "the receiver speaks version %u of the protocol, this replicator %d: upgrade one",
			       ret_theirs->major, WIRE_MAJOR);
	return 0;
}

// What follows OPENED where both sides know it.
static int damaged_get(struct channel *channel, const struct wire_open *open, struct wire_damaged *ret_damaged,
		       struct wire_failure *ret_failure, struct err *err)
{
	struct wire_frame frame;
	int rc = channel_expect(channel, WIRE_DAMAGED, CHANNEL_STALL_MS, &frame, ret_failure, err);
	if (rc)
		return rc;
	bool good = wire_get_damaged(&frame, ret_damaged) == 0;
	for (uint32_t i = 0; good && i < ret_damaged->count; i++) {
		const struct wire_run *run = &ret_damaged->run[i];
		good = run->disk < open->disk_count && size_within(run->first, run->count, size_blocks(open->disk[run->disk].size));
	}
	return good ? 0 : err_set(err, -EBADMSG, "the receiver's DAMAGED is not one of ours");
}

int greet_seeded(struct channel *channel, const struct wire_hello *theirs, struct err *err)
{
	if (!(theirs->features & WIRE_FEATURE_SEEDED))
		return err_set(err, -EPROTONOSUPPORT, "the receiver is of a version that cannot wait for a seed: upgrade it, or go on without one");
	void *to = channel_room(channel, WIRE_HEADER_SIZE);
	if (!to || channel_put(channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_SEEDED)))
		return broken(channel, err);
	return 0; // leaves with OPEN
}

static int doubted_get(struct channel *channel, const struct wire_open *open, struct wire_doubted *ret_doubted,
		       struct wire_failure *ret_failure, struct err *err)
{
	struct wire_frame frame;
	int rc = channel_expect(channel, WIRE_DOUBTED, CHANNEL_STALL_MS, &frame, ret_failure, err);
	if (rc)
		return rc;
	bool good = wire_get_doubted(&frame, ret_doubted) == 0 && (open->disk_count == DISKS_MAX || !(ret_doubted->disks >> open->disk_count));
	return good ? 0 : err_set(err, -EBADMSG, "the receiver's DOUBTED is not one of ours");
}

int greet_open(struct channel *channel, const struct wire_hello *theirs, const struct wire_open *open, struct wire_opened *ret_opened,
	       struct wire_damaged *ret_damaged, struct wire_doubted *ret_doubted, struct wire_failure *ret_failure, struct err *err)
{
	ret_damaged->count = 0;
	*ret_doubted = (struct wire_doubted){.disks = 0};
	ret_failure->code = 0;
	if (open->digest.kind == DIGEST_BLAKE2B && !(theirs->features & WIRE_FEATURE_BLAKE2B))
		return err_set(err, -EPROTONOSUPPORT, "the receiver is of a version without blake2b digests: upgrade it");
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (!to || channel_put(channel, wire_put_open(to, WIRE_FRAME_MAX, open)))
		return broken(channel, err);
	struct wire_frame frame;
	int rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_OPENED, CHANNEL_STALL_MS, &frame, ret_failure, err);
	if (rc)
		return rc;
	if (wire_get_opened(&frame, ret_opened))
		return err_set(err, -EBADMSG, "the receiver's OPENED is not one of ours");
	if (theirs->features & WIRE_FEATURE_DAMAGED)
		rc = damaged_get(channel, open, ret_damaged, ret_failure, err);
	if (rc == 0 && theirs->features & WIRE_FEATURE_DOUBT)
		rc = doubted_get(channel, open, ret_doubted, ret_failure, err);
	return rc;
}
