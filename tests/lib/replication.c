// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/replication.h"

#include "base/auto.h"
#include "format/qcow2.h"
#include "replicator/greet.h"
#include "replicator/site.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void must(int rc, const struct err *err)
{
	if (rc)
		fail_msg("%s", err->text);
}

static void receiver_begin(struct replication *r)
{
	struct err err = {0};
	(void)snprintf(r->store_dir, sizeof(r->store_dir), "%s/store", r->temp.dir);
	assert_int_equal(env_mkdir(r->temp.root, "store"), 0);
	assert_int_equal(env_root_open(env_posix(), r->store_dir, &r->store_root), 0);
	must(identity_load(r->temp.root, "receiver.pem", &r->receiver_identity, &err), &err);
	must(store_open(env_posix(), r->store_dir, &r->store, &err), &err);
	must(pairing_open(r->temp.root, identity_pin(r->receiver_identity), &r->pairing, &err), &err);
	must(server_start("127.0.0.1:0", r->receiver_identity, r->store, r->pairing, NULL, &r->server, &err), &err);
}

static void pair_both(struct replication *r)
{
	struct err err = {0};
	struct site site;
	char token[TOKEN_TEXT_SIZE];
	int64_t expires;
	must(identity_load(r->temp.root, "source.pem", &r->source_identity, &err), &err);
	must(pairing_token(r->pairing, server_address(r->server), token, &expires, &err), &err);
	must(site_pair(r->source_identity, "host1", "dr", token, NULL, &site, &err), &err);
	assert_string_equal(site.address, server_address(r->server));
	assert_true(pin_equal(&site.pin, identity_pin(r->receiver_identity)));
}

static void open_fill(struct replication *r)
{
	r->open = (struct wire_open){.name = "vm1",
				     .codec = CODEC_ZSTD,
				     .points_keep = 90,
				     .rpo_ms = 15000,
				     .disk_count = r->memory.source.disk_count};
	r->open.digest.kind = DIGEST_XXH3;
	for (unsigned i = 0; i < DIGEST_SECRET_SIZE; i++)
		r->open.digest.secret[i] = (unsigned char)draw(&r->seed);
	assert_int_equal(uuid_new(env_posix(), &r->open.protection), 0);
	assert_int_equal(uuid_new(env_posix(), &r->open.generation), 0);
	for (unsigned d = 0; d < r->open.disk_count; d++) {
		(void)snprintf(r->open.disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		r->open.disk[d].size = r->memory.source.disk_size[d];
	}
}

void replication_begin(struct replication *r, uint16_t disks, const uint64_t *sizes, uint64_t seed)
{
	struct err err = {0};
	memset(r, 0, sizeof(*r));
	r->seed = seed;
	r->codec = CODEC_ZSTD;
	temp_open(&r->temp);
	memory_source_init(&r->memory, disks, sizes);
	source_mark_all(&r->memory.source);
	open_fill(r);
	receiver_begin(r);
	pair_both(r);
	r->tls = identity_context(r->source_identity, false, &err);
	assert_non_null(r->tls);
	r->crew = NULL;
	if (seed % 2) // every other test with threads
		assert_int_equal(crew_new(&(struct crew_config){.threads = 2, .kit_new = pack_kit_new, .kit_free = pack_kit_free}, &r->crew), 0);
	assert_int_equal(ship_new(&(struct sender_config){.env = env_posix(), .crew = r->crew, .known_bytes = KNOWN_BYTES_DEFAULT}, &r->ship), 0);
}

void replication_end(struct replication *r)
{
	replication_disconnect(r);
	server_stop(r->server);
	pairing_close(r->pairing);
	store_close(r->store);
	identity_free(r->receiver_identity);
	identity_free(r->source_identity);
	SSL_CTX_free(r->tls);
	ship_free(r->ship);
	crew_free(r->crew);
	memory_source_done(&r->memory);
	for (size_t p = 0; p < REPLICATION_POINTS_MAX; p++)
		for (unsigned d = 0; d < MEMORY_DISKS_MAX; d++)
			free(r->point[p].disk[d]);
	env_root_close(r->store_root);
	temp_close(&r->temp);
}

// --- the source's side ---

// The cut of the source is point `number` from now on.
static void remember(struct replication *r, uint64_t number, const struct uuid *cut)
{
	assert_true(number < REPLICATION_POINTS_MAX);
	assert_null(r->point[number].disk[0]);
	r->point[number].cut = *cut;
	for (unsigned d = 0; d < r->open.disk_count; d++) {
		size_t len = size_blocks(r->open.disk[d].size) * BLOCK_SIZE;
		r->point[number].disk[d] = malloc(len);
		assert_non_null(r->point[number].disk[d]);
		memcpy(r->point[number].disk[d], r->memory.disk[d].frozen, len);
	}
}

static void committed(struct replication *r, uint64_t number, const struct uuid *cut, const struct uuid *head)
{
	remember(r, number, cut);
	assert_int_equal(source_keep(&r->memory.source, &r->err), 0);
	r->position = number;
	r->last_cut = *cut;
	r->head = *head;
	memset(&r->pending_cut, 0, sizeof(r->pending_cut));
}

static void take_position(struct replication *r, const struct wire_opened *opened)
{
	r->head = opened->head;
	if (!uuid_is_zero(&r->pending_cut) && uuid_equal(&r->pending_cut, &opened->last_cut)) {
		assert_int_equal(opened->last_point, r->position + 1);
		r->found_committed++;
		committed(r, opened->last_point, &opened->last_cut, &opened->head);
		return;
	}
	source_give_back(&r->memory.source);
	memset(&r->pending_cut, 0, sizeof(r->pending_cut));
	assert_int_equal(opened->last_point, r->position);
	assert_true(uuid_equal(&opened->last_cut, &r->last_cut));
}

int replication_connect(struct replication *r, const char *address, struct wire_failure *failure)
{
	struct wire_failure ignored = {.code = 0};
	struct wire_hello theirs;
	struct wire_opened opened;
	struct wire_damaged damaged;
	struct wire_failure *refusal = failure ? failure : &ignored;
	replication_disconnect(r);
	refusal->code = 0;
	r->err.text[0] = 0;
	int rc = channel_connect(r->tls, address ? address : server_address(r->server),
				 identity_pin(r->receiver_identity), &r->channel, &r->err);
	if (rc == 0)
		rc = greet(r->channel, &theirs, &r->err);
	if (rc == 0 && r->seeded)
		rc = greet_seeded(r->channel, &theirs, &r->err);
	if (rc == 0)
		rc = greet_open(r->channel, &theirs, &r->open, &opened, &damaged, &r->doubted, refusal, &r->err);
	if (rc) {
		replication_disconnect(r);
		return rc;
	}
	take_position(r, &opened);
	for (uint32_t i = 0; i < damaged.count; i++)
		source_mark(&r->memory.source, damaged.run[i].disk, damaged.run[i].first * BLOCK_SIZE, damaged.run[i].count * BLOCK_SIZE);
	return 0;
}

void replication_disconnect(struct replication *r)
{
	channel_close(r->channel);
	r->channel = NULL;
}

static void on_stage(void *context, enum cycle_stage stage)
{
	(void)context;
	(void)stage;
}

static void on_seal(void *context, const struct uuid *cut)
{
	struct replication *r = context;
	r->pending_cut = *cut;
}

static struct wire_doubted certain(void *context)
{
	struct replication *r = context;
	return r->certain ? r->doubted : (struct wire_doubted){.disks = 0};
}

int replication_cycle(struct replication *r)
{
	struct cycle cycle = {
		.env = env_posix(),
		.source = &r->memory.source,
		.channel = r->channel,
		.ship = r->ship,
		.nodes = r->nodes,
		.pieces = r->pieces,
		.written = r->written,
		.codec = r->codec,
		.key = &r->open.digest,
		.predecessor = r->position,
		.head = r->head,
		.progress = &r->progress,
		.on_stage = on_stage,
		.on_seal = on_seal,
		.certain = certain,
		.context = r,
	};
	r->err = (struct err){0};
	int rc = cycle_run(&cycle, &r->report, &r->err);
	if (rc == 0) {
		committed(r, r->report.committed.number, &r->report.cut, &r->report.committed.head);
		return 0;
	}
	assert_true(r->err.code == rc && r->err.text[0]);
	if (!r->report.sealed || r->report.failure.code) {
		source_give_back(&r->memory.source);
		memset(&r->pending_cut, 0, sizeof(r->pending_cut));
	}
	if (rc != -ESTALE || r->report.failure.code)
		replication_disconnect(r);
	return rc;
}

void replication_connect_now(struct replication *r)
{
	if (replication_connect(r, NULL, NULL))
		fail_msg("%s", r->err.text);
}

void replication_cycle_now(struct replication *r)
{
	if (replication_cycle(r))
		fail_msg("%s", r->err.text);
}

// --- what the store shows ---

static void overlay_apply(struct qcow2_reader *reader, unsigned char *to)
{
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	struct err err = {0};
	assert_non_null(block);
	for (uint64_t i = 0; qcow2_reader_next(reader, i, &i, &err) == 0; i++) {
		uint16_t mask = 0;
		must(qcow2_reader_read(reader, i, block, &mask, &err), &err);
		for (size_t p = 0; p < PIECES_PER_BLOCK; p++)
			if (mask >> p & 1)
				memcpy(to + i * BLOCK_SIZE + p * PIECE_SIZE, block + p * PIECE_SIZE, PIECE_SIZE);
	}
}

static void chain_read(struct replication *r, uint64_t number, unsigned disk, unsigned char *to)
{
	char name[320];
	struct env_file *file = NULL, *base = NULL;
	struct qcow2_reader *reader = NULL;
	struct err err = {0};
	(void)snprintf(name, sizeof(name), "vm1/points/%llu/%s.qcow2", (unsigned long long)number,
		       r->open.disk[disk].name);
	assert_int_equal(env_open(r->store_root, name, ENV_READ, &file), 0);
	must(qcow2_reader_open(file, &reader, &err), &err);
	if (qcow2_reader_backing_format(reader) == QCOW2_BACKING_QCOW2) {
		chain_read(r, strtoull(qcow2_reader_backing(reader) + strlen("../"), NULL, 10), disk, to); // numbers may have gaps
	} else {
		(void)snprintf(name, sizeof(name), "vm1/base/%s.raw", r->open.disk[disk].name);
		assert_int_equal(env_open(r->store_root, name, ENV_READ, &base), 0);
		assert_int_equal(env_pread_full(base, to, r->open.disk[disk].size, 0), 0);
		env_close(base);
	}
	overlay_apply(reader, to);
	qcow2_reader_free(reader);
	env_close(file);
}

size_t replication_check(struct replication *r)
{
	struct replica *replica = store_find(r->store, "vm1");
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	assert_non_null(replica);
	uint64_t held; // so that nothing is folded or merged meanwhile
	assert_int_equal(replica_hold(replica, 0, &held, NULL), 0);
	assert_int_equal(replica_points(replica, &points, &count), 0);
	for (size_t i = 0; i < count; i++)
		for (unsigned d = 0; d < r->open.disk_count; d++) {
			uint64_t number = points[i].number;
			AUTO_FREE unsigned char *found = calloc(size_blocks(r->open.disk[d].size) + 1, BLOCK_SIZE);
			assert_non_null(found);
			assert_non_null(r->point[number].disk[d]);
			assert_true(uuid_equal(&points[i].cut, &r->point[number].cut));
			chain_read(r, number, d, found);
			if (memcmp(found, r->point[number].disk[d], r->open.disk[d].size) != 0)
				fail_msg("point %llu, disk %u: not what the disk held at the cut",
					 (unsigned long long)number, d);
		}
	replica_release(replica, held);
	return count;
}
