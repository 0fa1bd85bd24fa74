// SPDX-License-Identifier: Apache-2.0
// The replicator's state file beside a guest's image, on a real file system, driven and judged (tests/fs/run):
//
//	fs_state run DIR LOG ACKS SEED POINTS
//		does what an agent does, 8 operations for each of POINTS: marks regions and then writes to them, has what is dirty
//		taken by a receiver (pending cut, position, sync of the image, marks cleared), stops cleanly and starts again. To ACKS as in
//		fs_store.c: "created L", "asked N L" before operation N, "point N L" behind it; "asked-failover 1 L" when the tracking is given up.
//		Exit status 0; 3 when the state file or the image failed loudly; 1 for what must not be.
//	fs_state check DIR SEED CREATED ACKED ASKED FAILED LOST
//		loads the state file and judges it: after a crash it is believed, its position is one that the receiver can have, and every
//		region in which the image, as it lies on disk, differs from that point is dirty (B1: B2 and B4 are its parts). Then the agent goes on.
//
// What operation N does follows from SEED and N alone, so that both know what the receiver has after each.
#include "base/auto.h"
#include "base/log.h"
#include "base/size.h"
#include "replicator/state_file.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { REGIONS = 24, OPS_EACH = 8, OPS_MAX = 1024, WRITES_MAX = 4, LOUD = 3 };
#define IMAGE "image.raw"
#define STATE "vda.state"
#define IMAGE_SIZE ((uint64_t)REGIONS * REGION_SIZE)

enum kind { WRITE, SHIP, RESTART };

struct op {
	enum kind kind;
	bool fua; // the guest asks for each write to be durable: so a mark that comes late is seen
	unsigned writes, region[WRITES_MAX];
};

// The agent's memory and the receiver's, each piece a number: the operation that wrote it.
struct agent {
	uint32_t image[REGIONS], point[REGIONS];
	bool dirty[REGIONS], marked[REGIONS];
	struct state_position position;
};

struct world {
	uint64_t seed;
	struct op op[OPS_MAX + 1];
	uint32_t point[OPS_MAX + 1][REGIONS]; // what the receiver has after each operation
	uint64_t number[OPS_MAX + 1];	      // and which point that is
	struct agent m;
	struct env_root *root;
	struct env_file *image;
	struct state_file *file;
	FILE *acks;
	const char *log;
};

static const struct image_identity identity = {1, 2, IMAGE_SIZE, 4, 5, 3, true, false};

static void die(const char *what)
{
	(void)fprintf(stderr, "fs_state: %s\n", what);
	exit(1);
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

// --- the oracle ---

static void op_apply(struct agent *m, const struct op *op, uint32_t n)
{
	for (unsigned i = 0; op->kind == WRITE && i < op->writes; i++) {
		m->image[op->region[i]] = n;
		m->dirty[op->region[i]] = true;
	}
	if (op->kind != SHIP)
		return;
	memcpy(m->point, m->image, sizeof(m->point));
	memset(m->dirty, 0, sizeof(m->dirty));
	m->position.point = n;
	memset(m->position.last_cut.bytes, 0, sizeof(m->position.last_cut.bytes));
	m->position.last_cut.bytes[0] = (unsigned char)(n >> 8);
	m->position.last_cut.bytes[1] = (unsigned char)(n & 0xff);
	m->position.last_cut.bytes[2] = 1;
}

static void world_init(struct world *w, uint64_t seed)
{
	struct agent m = {.position = {.protection = {{1}}, .generation = {{2}}}};
	w->m = m;
	for (uint32_t n = 1; n <= OPS_MAX; n++) {
		uint64_t draws = seed * 10007 + n, chance = draw_below(&draws, 10);
		struct op *op = &w->op[n];
		*op = (struct op){.kind = chance < 7 ? WRITE : chance < 9 ? SHIP : RESTART, .writes = 1 + (unsigned)draw_below(&draws, WRITES_MAX),
				  .fua = draw_below(&draws, 2)};
		for (unsigned i = 0; i < op->writes; i++)
			op->region[i] = (unsigned)draw_below(&draws, REGIONS);
		op_apply(&m, op, n);
		memcpy(w->point[n], m.point, sizeof(m.point));
		w->number[n] = m.position.point;
	}
}

// --- an agent ---

static void acked(struct world *w, const char *what)
{
	struct stat log = {.st_size = 0};
	if (strcmp(w->log, "-") != 0 && stat(w->log, &log))
		die("the block log is gone");
	(void)fprintf(w->acks, "%s %lld\n", what, (long long)log.st_size);
	(void)fflush(w->acks);
}

static void map_fill(const struct agent *m, struct dirty *map)
{
	if (dirty_init(map, IMAGE_SIZE))
		die("out of memory");
	for (unsigned r = 0; r < REGIONS; r++)
		if (m->dirty[r])
			dirty_mark(map, (uint64_t)r * REGION_SIZE, PIECE_SIZE);
}

static int open_run(struct world *w, struct err *err)
{
	struct dirty map;
	map_fill(&w->m, &map);
	int rc = state_file_open_run(w->root, STATE, "vda", &w->m.position, &identity, &map, NULL, &w->file, err);
	dirty_done(&map);
	memcpy(w->m.marked, w->m.dirty, sizeof(w->m.marked));
	return rc;
}

static int piece_write(struct world *w, unsigned region, uint32_t n, bool fua, struct err *err)
{
	uint32_t piece[PIECE_SIZE / sizeof(n)];
	for (size_t i = 0; i < PIECE_SIZE / sizeof(n); i++)
		piece[i] = n;
	int rc = env_pwrite(w->image, piece, sizeof(piece), (uint64_t)region * REGION_SIZE);
	if (rc == 0 && fua)
		rc = env_sync(w->image);
	return rc ? err_sys(err, rc, "write the image") : 0;
}

static int run_write(struct world *w, const struct op *op, uint32_t n, struct err *err)
{
	uint64_t set[WRITES_MAX];
	size_t sets = 0;
	for (unsigned i = 0; i < op->writes; i++)
		if (!w->m.marked[op->region[i]]) {
			w->m.marked[op->region[i]] = true;
			set[sets++] = op->region[i];
		}
	int rc = state_file_marks(w->file, set, sets, NULL, 0, err); // B2
	for (unsigned i = 0; rc == 0 && i < op->writes; i++)
		rc = piece_write(w, op->region[i], n, op->fua, err);
	return rc;
}

// `after`: the position behind the operation.
static int run_ship(struct world *w, const struct state_position *after, struct err *err)
{
	uint64_t clear[REGIONS];
	size_t clears = 0;
	struct state_position pending = w->m.position;
	pending.pending_cut = after->last_cut;
	int rc = state_file_position(w->file, &pending, err);
	if (rc == 0) // here SEAL leaves, and COMMITTED comes
		rc = state_file_position(w->file, after, err);
	if (rc == 0 && (rc = env_sync(w->image))) // B4
		err_sys(err, rc, "sync the image");
	for (unsigned r = 0; r < REGIONS; r++)
		if (w->m.marked[r]) {
			w->m.marked[r] = false;
			clear[clears++] = r;
		}
	return rc ? rc : state_file_marks(w->file, NULL, 0, clear, clears, err);
}

static int run_restart(struct world *w, struct err *err)
{
	struct dirty map, found;
	struct state_position position;
	int rc = env_sync(w->image);
	if (rc)
		return err_sys(err, rc, "sync the image");
	map_fill(&w->m, &map);
	rc = state_file_save(w->file, &w->m.position, &identity, &map, err);
	if (rc)
		return dirty_done(&map), rc;
	state_file_close(w->file);
	w->file = NULL;
	if (dirty_init(&found, IMAGE_SIZE))
		die("out of memory");
	if (state_file_load(w->root, STATE, "vda", &w->m.position, &identity, false, &found, &position) != SYNC_NONE)
		die("a clean stop is not found");
	if (dirty_bytes(&found) != dirty_bytes(&map) || position.point != w->m.position.point)
		die("a clean stop is found with another map, or another position");
	dirty_done(&found);
	dirty_done(&map);
	return open_run(w, err);
}

static int op_run(struct world *w, uint32_t n, struct err *err)
{
	const struct op *op = &w->op[n];
	struct agent after = w->m;
	op_apply(&after, op, n);
	int rc = op->kind == WRITE ? run_write(w, op, n, err) : op->kind == SHIP ? run_ship(w, &after.position, err) : run_restart(w, err);
	memcpy(after.marked, w->m.marked, sizeof(after.marked));
	w->m = after;
	return rc;
}

static int loud(struct world *w, const char *what, const struct err *err)
{
	struct err lost = {0};
	(void)printf("%s failed: %s\n", what, err->text);
	acked(w, "asked-failover 1");
	if (state_file_lose(w->file, w->root, STATE, &lost))
		(void)printf("and it cannot be said: %s\n", lost.text);
	return LOUD;
}

static int run(struct world *w, uint64_t ops)
{
	char what[64];
	struct err err = {0};
	int rc = env_open(w->root, IMAGE, ENV_CREATE, &w->image);
	if (rc == 0)
		rc = env_truncate(w->image, IMAGE_SIZE);
	if (rc == 0)
		rc = env_sync(w->image);
	if (rc == 0)
		rc = env_sync_dir(w->root, ".");
	if (rc || open_run(w, &err))
		return (void)printf("the first start failed: %s\n", err.text), LOUD;
	acked(w, "created");
	for (uint32_t n = 1; n <= ops; n++) {
		(void)snprintf(what, sizeof(what), "asked %u", n);
		acked(w, what);
		if (op_run(w, n, &err))
			return loud(w, what, &err);
		(void)snprintf(what, sizeof(what), "point %u", n);
		acked(w, what);
	}
	return 0;
}

// --- check ---

// Each region in which the image differs from what the receiver has after operation `n` is dirty.
static void check_superset(struct world *w, const struct dirty *map, uint64_t n)
{
	uint32_t piece[PIECE_SIZE / sizeof(uint32_t)];
	for (unsigned r = 0; r < REGIONS; r++) {
		bool equal = true;
		if (env_pread_full(w->image, piece, sizeof(piece), (uint64_t)r * REGION_SIZE))
			die("the image cannot be read");
		for (size_t i = 0; i < PIECE_SIZE / sizeof(uint32_t); i++)
			equal = equal && piece[i] == w->point[n][r];
		if (equal || dirty_mask(map, (uint64_t)r * BLOCKS_PER_REGION) & 1)
			continue;
		(void)fprintf(stderr, "fs_state: B1: region %u is %u, the receiver's %u after operation %llu, and it is not dirty\n", r, piece[0],
			      w->point[n][r], (unsigned long long)n);
		exit(1);
	}
}

// It starts again from what was found, and stops cleanly.
static void check_goes_on(struct world *w, const struct dirty *map, const struct state_position *position)
{
	struct err err = {0};
	struct dirty found;
	struct state_position again;
	if (state_file_open_run(w->root, STATE, "vda", position, &identity, map, NULL, &w->file, &err) ||
	    state_file_save(w->file, position, &identity, map, &err))
		die(err.text);
	if (dirty_init(&found, IMAGE_SIZE))
		die("out of memory");
	if (state_file_load(w->root, STATE, "vda", position, &identity, false, &found, &again) != SYNC_NONE ||
	    dirty_bytes(&found) != dirty_bytes(map))
		die("it does not go on");
	dirty_done(&found);
}

static int check(struct world *w, bool created, uint64_t acked_op, uint64_t asked_op, bool lost)
{
	struct dirty map;
	struct state_position position = w->m.position;
	if (dirty_init(&map, IMAGE_SIZE))
		die("out of memory");
	int rc = env_open(w->root, IMAGE, ENV_WRITE, &w->image);
	if (rc == -ENOENT && !created)
		return 0;
	if (rc)
		die("the image is gone");
	enum sync_reason reason = state_file_load(w->root, STATE, "vda", &w->m.position, &identity, false, &map, &position);
	if (reason != SYNC_NONE && reason != SYNC_UNCLEAN_STOP) {
		if (created && !lost)
			die(sync_reason_name(reason));
		dirty_done(&map);
		return 0; // the whole disk is compared
	}
	if (position.point != w->number[acked_op] && position.point != w->number[asked_op])
		die("its position is no point that the receiver can have");
	check_superset(w, &map, position.point == w->number[asked_op] ? asked_op : acked_op);
	if (!uuid_is_zero(&position.pending_cut)) // whose SEAL may have been taken
		check_superset(w, &map, asked_op);
	check_goes_on(w, &map, &position);
	dirty_done(&map);
	return 0;
}

int main(int argc, char **argv)
{
	static struct world w;
	int rc = 1;
	log_init("fs_state", LOG_LEVEL_ERROR);
	if (argc < 3 || env_root_open(env_posix(), argv[2], &w.root))
		die("usage: see the top of tests/fs/fs_state.c");
	if (argc == 7 && strcmp(argv[1], "run") == 0) {
		uint64_t ops = number(argv[6]) * OPS_EACH;
		world_init(&w, number(argv[5]));
		w.log = argv[3];
		if (!(w.acks = fopen(argv[4], "ae")) || ops == 0 || ops > OPS_MAX)
			die("run: ACKS or POINTS");
		rc = run(&w, ops);
	} else if (argc == 9 && strcmp(argv[1], "check") == 0) {
		world_init(&w, number(argv[3]));
		rc = check(&w, number(argv[4]), number(argv[5]), number(argv[6]), number(argv[8]));
	} else {
		die("usage: see the top of tests/fs/fs_state.c");
	}
	state_file_close(w.file);
	env_close(w.image);
	env_root_close(w.root);
	return rc;
}
