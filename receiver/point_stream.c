// SPDX-License-Identifier: Apache-2.0
// A point's disk on its way out. What it promises: a byte that is sent was proven to be what was committed, and the point is held until
// the last one.
#include "receiver/point_stream.h"

#include "base/auto.h"
#include "base/log.h"
#include "base/size.h"
#include "base/when.h"
#include "receiver/chain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PASSED_MAX = 1 << 16 }; // blocks without a word; then it is said that they are zeros, so that who waits hears something

struct point_stream {
	struct stream_out out; // first
	struct replica *replica;
	uint64_t number;
	bool held, damaged;
	struct verifier *verifier;
	char protection[NAME_SIZE], disk[NAME_SIZE];
	int64_t cut_wall_ns;
	struct chain *chain;
	bool begun;
	uint64_t index; // of the next block
};

static void let_go(struct point_stream *ps)
{
	chain_close(ps->chain);
	ps->chain = NULL;
	if (ps->held)
		replica_release(ps->replica, ps->number);
	ps->held = false;
}

static void on_done(struct stream_out *out)
{
	struct point_stream *ps = (struct point_stream *)out;
	let_go(ps);
	stream_out_done(&ps->out);
	free(ps);
}

static uint64_t data_bytes(const struct chain *chain)
{
	uint64_t size = chain_size(chain), bytes = chain_data_blocks(chain) * BLOCK_SIZE, last = size_blocks(size) - 1;
	return chain_next(chain, last) == last ? bytes - (BLOCK_SIZE - size_of_block(size, last)) : bytes;
}

static json_t *describe(const struct point_stream *ps)
{
	char cut[WHEN_SIZE];
	when_format(ps->cut_wall_ns, cut);
	return json_pack("{s:s, s:I, s:s, s:s, s:I, s:I}", "protection", ps->protection, "point", (json_int_t)ps->number, "cut", cut, "disk",
			 ps->disk, "size_bytes", (json_int_t)chain_size(ps->chain), "data_bytes",
			 (json_int_t)data_bytes(ps->chain));
}

// A block that is not what was committed, for the reason in `err`. 0: it is to be sent as it is; what cannot be read at all is zeros.
static int block_damaged(struct point_stream *ps, uint64_t index, struct err *err)
{
	log_error("an export found damage protection=%s point=%llu disk=%s block=%llu reason=\"%s\"", ps->protection,
		  (unsigned long long)ps->number, ps->disk, (unsigned long long)index, err->text);
	if (ps->verifier && ps->out.unproven_blocks == 0)
		verifier_distrust(ps->verifier, ps->replica, ps->number);
	if (!ps->damaged)
		return err->code;
	ps->out.unproven_blocks++;
	if (chain_read(ps->chain, index, ps->out.buf + STREAM_HEADER_SIZE, NULL))
		memset(ps->out.buf + STREAM_HEADER_SIZE, 0, BLOCK_SIZE);
	*err = (struct err){.code = 0};
	return 0;
}

// The next one that is to be read, after those that no file holds.
static uint64_t block_next(struct point_stream *ps, uint64_t *passed)
{
	uint64_t end = size_blocks(chain_size(ps->chain));
	for (; ps->index < end && *passed < PASSED_MAX && !chain_holds(ps->chain, ps->index); ps->index++)
		++*passed;
	return ps->index < end ? ps->index++ : CHAIN_END;
}

static int on_next(struct stream_out *out, struct err *err)
{
	struct point_stream *ps = (struct point_stream *)out;
	if (!ps->begun) {
		ps->begun = true;
		return stream_out_begin(out, describe(ps), err);
	}
	for (uint64_t passed = 0;; passed++) {
		uint64_t index = block_next(ps, &passed);
		if (index == CHAIN_END) {
			let_go(ps); // who has the END finds nothing held
			return stream_out_end(out, err);
		}
		int rc = chain_get(ps->chain, index, out->buf + STREAM_HEADER_SIZE, err);
		bool zeros = rc == 0 && chain_zeros(ps->chain, index); // and proven to be
		if (zeros && passed < PASSED_MAX)
			continue;
		if (zeros) {
			stream_out_zeros(out, index * BLOCK_SIZE + size_of_block(chain_size(ps->chain), index));
			return 0;
		}
		if (rc == -EBADMSG || rc == -EIO)
			rc = block_damaged(ps, index, err);
		if (rc == 0)
			stream_out_data(out, index * BLOCK_SIZE, size_of_block(chain_size(ps->chain), index));
		return rc;
	}
}

static int disk_find(const struct replica_info *info, const char *name, unsigned *ret_disk, struct err *err)
{
	for (unsigned i = 0; i < info->disk_count; i++)
		if (strcmp(info->disk[i].name, name) == 0) {
			*ret_disk = i;
			return 0;
		}
	return err_set(err, -ENOENT, "%s has no disk %s", info->name, name);
}

static int cut_find(struct replica *replica, uint64_t number, int64_t *ret_cut_wall_ns, struct err *err)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (replica_points(replica, &points, &count))
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		if (points[i].number == number)
			*ret_cut_wall_ns = points[i].cut_wall_ns;
	return 0;
}

static int fill_in(struct point_stream *ps, uint64_t number, const char *disk, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	unsigned index = 0;
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(ps->replica, info);
	int rc = replica_hold(ps->replica, number, &ps->number, err); // first: where there is no point its disks may not be known
	ps->held = rc == 0;
	if (rc == 0)
		rc = disk_find(info, disk, &index, err);
	if (rc)
		return rc;
	(void)snprintf(ps->protection, NAME_SIZE, "%s", info->name);
	(void)snprintf(ps->disk, NAME_SIZE, "%s", info->disk[index].name);
	rc = cut_find(ps->replica, ps->number, &ps->cut_wall_ns, err);
	return rc ? rc : chain_open(ps->replica, ps->number, index, &ps->chain, err);
}

int point_stream_open(struct replica *replica, uint64_t number, const char *disk, bool damaged, struct verifier *verifier,
		      atomic_uint *under_way, struct control_stream *ret_stream, struct err *err)
{
	struct point_stream *ps = calloc(1, sizeof(*ps));
	if (!ps)
		return err_set(err, -ENOMEM, "out of memory");
	ps->replica = replica;
	ps->damaged = damaged;
	ps->verifier = verifier;
	int rc = stream_out_init(&ps->out, on_next, on_done, under_way, err);
	if (rc == 0)
		rc = fill_in(ps, number, disk, err);
	if (rc) {
		on_done(&ps->out);
		return rc;
	}
	*ret_stream = stream_out_control(&ps->out);
	return 0;
}
