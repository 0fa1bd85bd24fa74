// SPDX-License-Identifier: Apache-2.0
// The export as a whole: its thread, its socket and real images, by a raw client of our own and by the tools of others.
#include "replicator/export.h"

#include "base/bytes.h"
#include "base/env.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/export_loop.h"
#include "replicator/holder.h"
#include "replicator/send_way.h"
#include "tests/lib/export_place.h"
#include "tests/lib/file_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void export_reads_back_what_was_written_at_any_alignment(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	int fd = dial_disk(p, "vdb");
	unsigned char *out = malloc(9 << 20), *in = malloc(9 << 20);
	for (unsigned i = 0; i < 9 << 20; i++)
		out[i] = (unsigned char)(i * 7 + i / 251);
	const struct {
		uint64_t off;
		uint32_t len;
	} ranges[] = {{0, 4096}, {1, 1}, {511, 70000}, {1 << 20, 9 << 20}, {IMAGE_SIZE - 3, 3}, {12345, 1 << 20}};
	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		assert_int_equal(ask(fd, i % 2 ? CMD_WRITE | CMD_FUA : CMD_WRITE, ranges[i].off, ranges[i].len, out), 0);
		assert_int_equal(ask(fd, CMD_READ, ranges[i].off, ranges[i].len, in), 0);
		assert_memory_equal(in, out, ranges[i].len);
	}
	assert_int_equal(ask(fd, CMD_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(ask(fd, CMD_TRIM, 1 << 20, 1 << 20, NULL), 0);
	assert_int_equal(ask(fd, CMD_READ, 1 << 20, 1 << 20, in), 0);
	assert_true(bytes_zero(in, 1 << 20));
	(void)close(fd);
	place_stop(p);
	assert_int_equal(dirty_mask(export_dirty(p->export, 1), size_blocks(IMAGE_SIZE) - 1), 0x8000);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 0);
	free(out);
	free(in);
	place_free(p);
}

static void export_answers_many_requests_of_one_send(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	int fd = dial_disk(p, "vda");
	enum { MANY = 1000, LEN = 512 };
	unsigned char *stream = malloc(MANY * (28 + LEN)), got[LEN];
	for (unsigned i = 0; i < MANY; i++) { // more than may be under way at once
		unsigned char *at = stream + (size_t)i * (28 + LEN);
		put_be32(at, 0x25609513);
		put_be32(at + 4, CMD_WRITE);
		put_be64(at + 8, i);
		put_be64(at + 16, (uint64_t)i * LEN);
		put_be32(at + 24, LEN);
		memset(at + 28, (int)(i % 255 + 1), LEN);
	}
	put_all(fd, stream, MANY * (28 + LEN));
	static bool answered[MANY];
	memset(answered, 0, sizeof(answered));
	for (unsigned i = 0; i < MANY; i++) {
		uint64_t cookie;
		assert_int_equal(get_reply(fd, &cookie), 0);
		assert_true(cookie < MANY && !answered[cookie]);
		answered[cookie] = true;
	}
	for (unsigned i = 0; i < MANY; i += 37) {
		assert_int_equal(ask(fd, CMD_READ, (uint64_t)i * LEN, LEN, got), 0);
		assert_int_equal(got[LEN - 1], i % 255 + 1);
	}
	free(stream);
	(void)close(fd);
	place_stop(p);
	place_free(p);
}

static void export_bad_requests_get_errors_and_broken_ones_end_that_connection_alone(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	p->config.disk[1].read_only = true;
	place_start(p);
	unsigned char data[4096] = {1};
	int good = dial_disk(p, "vda"), bad = dial_disk(p, "vda"), fixed = dial_disk(p, "vdb");
	assert_int_equal(ask(bad, CMD_WRITE, IMAGE_SIZE - 1, 4096, data), ENOSPC); // its payload is passed over
	assert_int_equal(ask(bad, CMD_READ, IMAGE_SIZE, 1, data), EINVAL);
	assert_int_equal(ask(bad, CMD_TRIM, UINT64_MAX, 4096, NULL), EINVAL);
	assert_int_equal(ask(bad, CMD_CACHE, IMAGE_SIZE - 4096, 8192, NULL), EINVAL);
	assert_int_equal(ask(bad, CMD_CACHE, UINT64_MAX, 4096, NULL), EINVAL);
	assert_int_equal(ask(bad, CMD_CACHE, 0, 0, NULL), EINVAL);
	assert_int_equal(ask(bad, 99, 0, 4096, NULL), EINVAL);
	assert_int_equal(ask(good, CMD_CACHE, 0, IMAGE_SIZE, NULL), 0); // more than is read ahead
	assert_int_equal(ask(good, CMD_CACHE, 4095, 2, NULL), 0);
	assert_int_equal(ask(fixed, CMD_CACHE, 0, 4096, NULL), 0); // reads, so a read-only disk takes it
	assert_int_equal(ask(fixed, CMD_WRITE, 0, 4096, data), EPERM);
	assert_int_equal(ask(bad, CMD_WRITE, 0, 4096, data), 0);
	put_all(bad, "this is not a request of NBD", 28);
	assert_true(closed_by_peer(bad));
	int half = dial_disk(p, "vda");
	put_request(half, CMD_WRITE, 1, 0, 32 << 20); // half a payload, then nothing
	put_all(half, data, 100);
	(void)close(half);
	int shy = dial(p);
	put_all(shy, "GET / HTTP/1.1\r\n\r\n", 18);
	assert_true(closed_by_peer(shy));
	assert_int_equal(ask(good, CMD_READ, 0, 4096, data), 0);
	put_request(good, CMD_DISC, 1, 0, 0);
	assert_true(closed_by_peer(good));
	place_stop(p); // also with a client that is still there
	(void)close(good);
	(void)close(bad);
	(void)close(shy);
	(void)close(fixed);
	place_free(p);
}

// ---- the cycle's side

// Two disks are written in turn, each write with the next number: R1 says that no point has a number without those before.
struct writer {
	const struct place *place;
	_Atomic bool stop;
};

enum { SLOTS = 200 };

static uint64_t slot_off(unsigned slot)
{
	return (uint64_t)(slot * 7919 % SLOTS) * 3 * BLOCK_SIZE / 2 + 100; // neither block nor piece holds it whole
}

static void *write_in_turn(void *context)
{
	struct writer *w = context;
	int fd[2] = {dial_disk(w->place, "vda"), dial_disk(w->place, "vdb")};
	unsigned char data[8192];
	for (uint64_t number = 1; !w->stop; number++) {
		for (unsigned i = 0; i < sizeof(data); i += 8)
			put_le64(data + i, number);
		(void)ask(fd[number % 2], CMD_WRITE, slot_off((unsigned)(number / 2 % SLOTS)), sizeof(data), data);
	}
	(void)close(fd[0]);
	(void)close(fd[1]);
	return NULL;
}

static void check_prefix(unsigned char *const replica[2])
{
	uint64_t last = 0;
	for (unsigned d = 0; d < 2; d++)
		for (unsigned s = 0; s < SLOTS; s++)
			last = max_u64(last, get_le64(replica[d] + slot_off(s)));
	for (uint64_t back = 0; back < 2 * SLOTS && back < last; back++) {
		uint64_t number = last - back;
		const unsigned char *at = replica[number % 2] + slot_off((unsigned)(number / 2 % SLOTS));
		for (unsigned i = 0; i < 8192; i += 8)
			assert_true(get_le64(at + i) == number);
	}
}

static void take_batch(const struct source_batch *batch, unsigned char *const replica[2])
{
	for (unsigned i = 0; i < batch->count; i++) {
		const struct source_block *b = &batch->block[i];
		for (unsigned piece = 0; piece < PIECES_PER_BLOCK; piece++)
			if (b->mask & 1u << piece)
				memcpy(replica[b->disk] + b->index * BLOCK_SIZE + (size_t)piece * PIECE_SIZE,
				       b->data + (size_t)piece * PIECE_SIZE, PIECE_SIZE);
	}
}

// One cycle with two batches under way. 0, or what wait said.
static int cycle(struct source *source, enum cut_mode mode, unsigned char *const replica[2])
{
	static struct source_batch batch[2];
	struct source_cut cut;
	int code = 0;
	unsigned turn = 0;
	assert_int_equal(source_batch_init(&batch[0]), 0);
	assert_int_equal(source_batch_init(&batch[1]), 0);
	assert_int_equal(source_cut(source, mode, &cut, NULL), 0);
	assert_int_equal(source_fetch(source, &batch[0]), 0);
	for (bool more = true; more; turn ^= 1) {
		assert_int_equal(source_fetch(source, &batch[turn ^ 1]), 0);
		code = source_wait(source, &batch[turn], NULL);
		more = code == 0 && batch[turn].count;
		if (code == 0)
			take_batch(&batch[turn], replica);
	}
	(void)source_wait(source, &batch[turn], NULL);
	source_batch_done(&batch[0]);
	source_batch_done(&batch[1]);
	return code;
}

static void export_every_point_is_a_prefix_of_the_writes_over_both_disks(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	struct writer writer = {.place = p};
	pthread_t thread;
	unsigned char *replica[2] = {calloc(1, IMAGE_SIZE), calloc(1, IMAGE_SIZE)};
	struct source *source = export_source(p->export);
	assert_int_equal(pthread_create(&thread, NULL, write_in_turn, &writer), 0);
	for (unsigned i = 0; i < 25; i++) {
		if (i % 5 == 4)
			assert_int_equal(cycle(source, CUT_PRECOPY, replica), 0);
		assert_int_equal(cycle(source, CUT_POINT, replica), 0);
		check_prefix(replica);
		if (i % 7 == 6)
			source_give_back(source);
		else
			assert_int_equal(source_keep(source, NULL), 0);
	}
	writer.stop = true;
	(void)pthread_join(thread, NULL);
	assert_int_equal(cycle(source, CUT_POINT, replica), 0);
	assert_int_equal(source_keep(source, NULL), 0);
	assert_int_equal(source_dirty_bytes(source), 0);
	place_stop(p);
	for (unsigned d = 0; d < 2; d++) {
		int fd = open(p->image[d], O_RDONLY | O_CLOEXEC);
		unsigned char *image = malloc(IMAGE_SIZE);
		assert_true(fd >= 0 && read(fd, image, IMAGE_SIZE) == (ssize_t)IMAGE_SIZE);
		assert_memory_equal(image, replica[d], IMAGE_SIZE);
		free(image);
		(void)close(fd);
		free(replica[d]);
	}
	place_free(p);
}

// ---- the spill file

enum { SPILL_LEN = 6 << 20, SPILL_BLOCKS = SPILL_LEN / BLOCK_SIZE, SPILL_MEMORY = 4, SPILL_WRITE = 128 << 10 };

static void pattern(unsigned char *to, unsigned round)
{
	for (size_t i = 0; i < SPILL_LEN; i += 8)
		put_le64(to + i, i * 31 + round * UINT64_C(0x0101010101));
}

static void overwrite(int fd, unsigned char *data, unsigned round)
{
	pattern(data, round);
	for (uint64_t off = 0; off < SPILL_LEN; off += SPILL_WRITE)
		assert_int_equal(ask(fd, CMD_WRITE, off, SPILL_WRITE, data + off), 0);
}

// Bytes that the file without a name in the place's directory takes on disk.
static uint64_t spill_on_disk(const struct place *p)
{
	for (int fd = 3; fd < 256; fd++) {
		char name[32], path[512];
		struct stat st;
		(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		ssize_t len = readlink(name, path, sizeof(path) - 1);
		if (len <= 0 || fstat(fd, &st) || st.st_nlink != 0)
			continue;
		path[len] = 0;
		if (strncmp(path, p->dir, strlen(p->dir)) == 0)
			return (uint64_t)st.st_blocks * 512;
	}
	fail_msg("there is no spill file in %s", p->dir);
	return 0;
}

// The figures come from the loop's thread, a little after the answer that they are about.
static void preserved_becomes(const struct place *p, uint64_t preserved, uint64_t spilled)
{
	struct export_stats stats;
	for (unsigned i = 0; i < 10000; i++, (void)usleep(1000)) {
		export_stats(p->export, 0, &stats);
		if (stats.preserved_bytes == preserved && stats.spilled_bytes == spilled)
			return;
	}
	fail_msg("%llu bytes are preserved, %llu of them spilled", (unsigned long long)stats.preserved_bytes,
		 (unsigned long long)stats.spilled_bytes);
}

static void spill_becomes_empty(const struct place *p)
{
	for (unsigned i = 0; i < 10000 && spill_on_disk(p); i++)
		(void)usleep(1000);
	assert_int_equal(spill_on_disk(p), 0);
}

struct overwriter {
	const struct place *place;
	uint64_t spilled_max, memory_max, on_disk_max;
	unsigned rounds;
	_Atomic bool stop;
};

static void *overwrite_on(void *context)
{
	struct overwriter *o = context;
	unsigned char *data = malloc(SPILL_LEN);
	int fd = dial_disk(o->place, "vda");
	for (; !o->stop; o->rounds++) {
		struct export_stats stats;
		overwrite(fd, data, 100 + o->rounds);
		export_stats(o->place->export, 0, &stats);
		o->spilled_max = max_u64(o->spilled_max, stats.spilled_bytes);
		o->memory_max = max_u64(o->memory_max, stats.preserved_bytes - min_u64(stats.preserved_bytes, stats.spilled_bytes));
		o->on_disk_max = max_u64(o->on_disk_max, spill_on_disk(o->place));
	}
	(void)close(fd);
	free(data);
	return NULL;
}

static struct place *place_spilling(uint64_t blocks)
{
	struct place *p = place_new();
	p->config.preserve_bytes_max = (uint64_t)SPILL_MEMORY * BLOCK_SIZE;
	p->config.spill_dir = p->dir;
	p->config.spill_bytes_max = blocks * BLOCK_SIZE;
	place_start(p);
	return p;
}

// All that was asked for, as it was at the cut: 0, or what waiting said.
static int read_cut(struct source *source, unsigned char *const replica[2])
{
	struct source_batch batch;
	int code;
	assert_int_equal(source_batch_init(&batch), 0);
	do {
		assert_int_equal(source_fetch(source, &batch), 0);
		code = source_wait(source, &batch, NULL);
		if (code == 0)
			take_batch(&batch, replica);
	} while (code == 0 && batch.count);
	source_batch_done(&batch);
	return code;
}

// It lies in the state directory, and keeps a cut, or the end of the export, as long as that does not answer.
static void spill_file_that_owes_an_answer_is_told(void **unused)
{
	enum { HUNG_S = 10 };
	const uint64_t hung_ns = HUNG_S * UINT64_C(1000000000);
	(void)unused;
	struct place *p = place_spilling(SPILL_BLOCKS);
	assert_true(export_spill_silent_ns(p->export) == 0);
	atomic_store(&p->export->spill.inside_ns, clock_mono_ns() - hung_ns);
	assert_true(export_spill_silent_ns(p->export) >= hung_ns);
	atomic_store(&p->export->spill.inside_ns, 0);
	assert_true(export_spill_silent_ns(p->export) == 0);
	place_stop(p);
	place_free(p);
}

static void export_reads_a_cut_back_from_the_spill_file_byte_for_byte(void **unused)
{
	(void)unused;
	struct place *p = place_spilling(SPILL_BLOCKS);
	struct source *source = export_source(p->export);
	unsigned char *data = malloc(SPILL_LEN), *replica[2] = {calloc(1, IMAGE_SIZE), calloc(1, IMAGE_SIZE)};
	int fd = dial_disk(p, "vda");
	struct source_cut cut;
	for (unsigned turn = 0; turn < 4; turn++) {
		overwrite(fd, data, turn);
		assert_int_equal(source_cut(source, CUT_POINT, &cut, NULL), 0);
		assert_int_equal(cut.blocks, SPILL_BLOCKS);
		overwrite(fd, data, 50 + turn); // every block before any is read
		preserved_becomes(p, SPILL_LEN, SPILL_LEN - (uint64_t)SPILL_MEMORY * BLOCK_SIZE);
		assert_true(spill_on_disk(p) > 0 && spill_on_disk(p) <= p->config.spill_bytes_max);
		struct overwriter o = {.place = p};
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, overwrite_on, &o), 0);
		assert_int_equal(read_cut(source, replica), 0);
		o.stop = true;
		(void)pthread_join(thread, NULL);
		pattern(data, turn);
		assert_memory_equal(replica[0], data, SPILL_LEN);
		assert_true(o.spilled_max <= p->config.spill_bytes_max && o.on_disk_max <= p->config.spill_bytes_max + (1 << 20));
		assert_true(o.memory_max <= p->config.preserve_bytes_max);
		assert_int_equal(source_keep(source, NULL), 0);
		preserved_becomes(p, 0, 0);
		spill_becomes_empty(p);
	}
	(void)close(fd);
	place_stop(p);
	free(data);
	free(replica[0]);
	free(replica[1]);
	place_free(p);
}

static void export_gives_the_cut_up_and_not_the_guest_when_the_spill_file_is_full(void **unused)
{
	(void)unused;
	struct place *p = place_spilling(16);
	struct source *source = export_source(p->export);
	unsigned char *data = malloc(SPILL_LEN), *replica[2] = {calloc(1, IMAGE_SIZE), calloc(1, IMAGE_SIZE)};
	int fd = dial_disk(p, "vda");
	struct source_cut cut;
	overwrite(fd, data, 1);
	assert_int_equal(source_cut(source, CUT_POINT, &cut, NULL), 0);
	overwrite(fd, data, 2);
	assert_int_equal(read_cut(source, replica), -ESTALE);
	source_give_back(source);
	preserved_becomes(p, 0, 0);
	spill_becomes_empty(p);
	assert_int_equal(cycle(source, CUT_POINT, replica), 0); // the guest is quiet now
	assert_memory_equal(replica[0], data, SPILL_LEN);
	assert_int_equal(source_keep(source, NULL), 0);
	(void)close(fd);
	place_stop(p);
	free(data);
	free(replica[0]);
	free(replica[1]);
	place_free(p);
}

static void export_stop_gives_an_open_cut_back(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	unsigned char data[4096] = {1};
	struct source_cut cut;
	struct source_batch batch;
	struct err err = {0};
	int fd = dial_disk(p, "vda");
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	assert_int_equal(ask(fd, CMD_WRITE, 5 << 20, 4096, data), 0);
	assert_int_equal(source_cut(export_source(p->export), CUT_POINT, &cut, &err), 0);
	assert_int_equal(cut.dirty_bytes, 2 * PIECE_SIZE);
	assert_int_equal(cut.blocks, 2);
	assert_int_equal(ask(fd, CMD_WRITE, 4096, 4096, data), 0);
	struct export_stats stats;
	export_stats(p->export, 0, &stats);
	assert_int_equal(stats.writes, 3);
	assert_int_equal(stats.clients, 1);
	place_stop(p);
	const struct dirty *dirty = export_dirty(p->export, 0);
	assert_int_equal(dirty_mask(dirty, 0), 3);
	assert_int_equal(dirty_mask(dirty, (5 << 20) / BLOCK_SIZE), 1);
	assert_int_equal(source_cut(export_source(p->export), CUT_POINT, &cut, &err), -ESHUTDOWN);
	assert_int_equal(source_batch_init(&batch), 0);
	assert_int_equal(source_fetch(export_source(p->export), &batch), 0);
	assert_int_equal(source_wait(export_source(p->export), &batch, &err), -ESHUTDOWN);
	source_batch_done(&batch);
	(void)close(fd);
	place_free(p);
}

static void export_refuses_images_it_cannot_protect(void **unused)
{
	(void)unused;
	struct place *p = place_new(), *q = calloc(1, sizeof(*q));
	struct err err = {0};
	place_start(p);
	*q = *p;
	assert_int_equal(export_open(&q->config, &q->export, &err), -EBUSY); // our own lock counts
	assert_non_null(strstr(err.text, p->image[0]));
	place_stop(p);
	export_close(p->export);
	p->export = NULL;
	assert_int_equal(truncate(p->image[1], 1000), 0);
	assert_int_equal(export_open(&p->config, &q->export, &err), -EINVAL);
	assert_non_null(strstr(err.text, p->image[1]));
	assert_int_equal(unlink(p->image[1]), 0);
	assert_int_equal(export_open(&p->config, &q->export, &err), -ENOENT);
	p->config.disk[1].path = p->dir;
	assert_int_equal(export_open(&p->config, &q->export, &err), -EINVAL);
	(void)snprintf(p->config.disk[1].name, NAME_SIZE, "vda");
	assert_int_equal(export_open(&p->config, &q->export, &err), -EINVAL);
	free(q);
	place_free(p);
}

static void export_replaces_a_stale_socket_and_no_other(void **unused)
{
	(void)unused;
	struct place *p = place_new(), *q = place_new();
	struct err err = {0};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", p->socket);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)close(fd); // nobody listens there
	place_start(p);
	q->config.socket_path = p->socket;
	assert_int_equal(export_open(&q->config, &q->export, &err), 0);
	assert_int_equal(export_start(q->export, &err), -EADDRINUSE);
	place_stop(p);
	make_image(p->socket, 0);
	assert_int_equal(export_start(q->export, &err), -EEXIST);
	assert_int_equal(access(p->socket, F_OK), 0);
	place_free(p);
	place_free(q);
}

// ---- a disk that does not answer

struct hang { // before a disk's image: writes stay here until they are released
	struct aio_backend backend, *image;
	struct aio *kept[8];
	unsigned count;
	bool released;
	struct ring_message release;
};

static void hang_submit(struct aio_backend *backend, struct aio *aio)
{
	struct hang *hang = HOLDER(backend, struct hang, backend);
	if (aio->kind != AIO_WRITE || hang->released)
		hang->image->submit(hang->image, aio);
	else
		hang->kept[hang->count++] = aio;
}

static void hang_end(struct ring_message *message)
{
	struct hang *hang = HOLDER(message, struct hang, release);
	hang->released = true;
	for (unsigned i = 0; i < hang->count; i++)
		hang->image->submit(hang->image, hang->kept[i]);
}

static void wait_for_writes(const struct place *p, uint16_t disk, uint64_t count)
{
	struct export_stats stats;
	do {
		(void)usleep(1000);
		export_stats(p->export, disk, &stats);
	} while (stats.writes < count);
}

static void export_gives_up_a_cut_for_a_disk_that_hangs_and_names_it(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err = {0};
	struct source_cut cut;
	struct export_cut_stats cuts;
	unsigned char data[4096], *replica[2] = {calloc(1, IMAGE_SIZE), calloc(1, IMAGE_SIZE)};
	uint64_t cookie;
	memset(data, 7, sizeof(data));
	p->config.cut_hold_ms_max = 20;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	struct hang hang = {.backend = {.submit = hang_submit}, .image = p->export->group.volume[0].backend};
	p->export->group.volume[0].backend = &hang.backend;
	assert_int_equal(export_start(p->export, &err), 0);
	struct source *source = export_source(p->export);
	int hung = dial_disk(p, "vda"), other = dial_disk(p, "vdb");
	put_request(hung, CMD_WRITE, 5, 0, 4096);
	put_all(hung, data, 4096);
	wait_for_writes(p, 0, 1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(source_cut(source, CUT_POINT, &cut, &err), -EAGAIN);
		assert_non_null(strstr(err.text, "disk vda: a write has been in flight for "));
		assert_int_equal(ask(other, CMD_WRITE, 0, 4096, data), 0);
	}
	export_cut_stats(p->export, &cuts);
	assert_int_equal(cuts.given_up, 2);
	assert_int_equal(cuts.count, 1); // the second one held nobody
	assert_true(cuts.max_us >= 20000);
	hang.release.run = hang_end;
	assert_true(ring_post(&p->export->ring, &hang.release));
	assert_int_equal(get_reply(hung, &cookie), 0);
	assert_int_equal(cycle(source, CUT_POINT, replica), 0);
	assert_memory_equal(replica[0], data, 4096);
	assert_memory_equal(replica[1], data, 4096);
	assert_int_equal(source_keep(source, NULL), 0);
	assert_int_equal(source_dirty_bytes(source), 0);
	(void)close(hung);
	(void)close(other);
	place_stop(p);
	place_free(p);
	free(replica[0]);
	free(replica[1]);
}

static void export_gives_up_a_cut_when_the_spill_file_hangs(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err = {0};
	struct source_cut cut;
	struct source_batch batch;
	unsigned char *data = calloc(3, BLOCK_SIZE);
	p->config.preserve_bytes_max = BLOCK_SIZE;
	p->config.spill_dir = p->dir;
	p->config.spill_wait_ms_max = 20;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	assert_non_null(p->export->group.spill.backend);
	struct hang hang = {.backend = {.submit = hang_submit}, .image = p->export->group.spill.backend};
	p->export->group.spill.backend = &hang.backend;
	assert_int_equal(export_start(p->export, &err), 0);
	struct source *source = export_source(p->export);
	int fd = dial_disk(p, "vda");
	assert_int_equal(ask(fd, CMD_WRITE, 0, 3 * BLOCK_SIZE, data), 0);
	assert_int_equal(source_cut(source, CUT_POINT, &cut, &err), 0);
	assert_int_equal(ask(fd, CMD_WRITE, 0, 3 * BLOCK_SIZE, data), 0); // more than memory holds
	assert_int_equal(source_batch_init(&batch), 0);
	assert_int_equal(source_fetch(source, &batch), 0);
	assert_int_equal(source_wait(source, &batch, &err), -ESTALE);
	source_give_back(source);
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	hang.release.run = hang_end;
	assert_true(ring_post(&p->export->ring, &hang.release));
	(void)close(fd);
	place_stop(p);
	assert_in_range(hang.count, 1, 2); // the third block may have come when the cut was given up already
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 3 * BLOCK_SIZE);
	source_batch_done(&batch);
	place_free(p);
	free(data);
}

static void *stop_listening(void *listener)
{
	(void)usleep(300000);
	(void)close(*(int *)listener);
	return NULL;
}

static void export_starts_though_the_socket_of_a_killed_agent_listens_for_a_moment(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	pthread_t thread;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", p->socket);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, stop_listening, &fd), 0);
	place_start(p);
	place_stop(p);
	(void)pthread_join(thread, NULL);
	place_free(p);
}

// ---- marks

struct book { // a state file in memory
	pthread_mutex_t lock;
	bool marked[2][16];
	unsigned commits;
	int res;
	bool held, note_held; // commits wait; notes do
	unsigned notes[2], losses[2];
	atomic_uint forsaken[2];
	const struct place *place;
	int witness; // a connection: what the loop would have let go when a note begins, it has after a few answers on that; 0: none
	pthread_cond_t changed;
};

static int book_commit(void *context, uint16_t disk, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears,
		       struct err *err)
{
	struct book *book = context;
	(void)pthread_mutex_lock(&book->lock);
	while (book->held)
		(void)pthread_cond_wait(&book->changed, &book->lock);
	book->commits++;
	for (size_t i = 0; i < clears; i++)
		book->marked[disk][clear[i]] = false;
	for (size_t i = 0; i < sets && !book->res; i++)
		book->marked[disk][set[i]] = true;
	int res = book->res;
	(void)pthread_mutex_unlock(&book->lock);
	return res ? err_sys(err, res, "write the state file") : 0;
}

static void read_image(const struct place *p, unsigned disk, uint64_t off, void *data, size_t len)
{
	int fd = open(p->image[disk], O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && pread(fd, data, len, (off_t)off) == (ssize_t)len);
	(void)close(fd);
}

// While it runs no write that waits for it has reached the image.
static void book_note(void *context, uint16_t disk, const char *why)
{
	struct book *book = context;
	unsigned char seen[4096];
	assert_non_null(strstr(why, "the state directory has not answered for "));
	for (int turn = 0; book->witness && turn < 3; turn++)
		assert_int_equal(ask(book->witness, CMD_READ, 0, sizeof(seen), seen), 0);
	read_image(book->place, disk, REGION_SIZE, seen, sizeof(seen));
	assert_true(bytes_zero(seen, sizeof(seen)));
	(void)pthread_mutex_lock(&book->lock);
	while (book->note_held)
		(void)pthread_cond_wait(&book->changed, &book->lock);
	book->notes[disk]++;
	(void)pthread_mutex_unlock(&book->lock);
}

static void book_lose(void *context, uint16_t disk, const char *why) // hangs as commit does
{
	struct book *book = context;
	assert_non_null(why);
	(void)pthread_mutex_lock(&book->lock);
	while (book->held)
		(void)pthread_cond_wait(&book->changed, &book->lock);
	book->losses[disk]++;
	(void)pthread_mutex_unlock(&book->lock);
}

static void book_forsake(void *context, uint16_t disk)
{
	struct book *book = context;
	unsigned char seen[4096];
	read_image(book->place, disk, 0, seen, sizeof(seen));
	assert_true(bytes_zero(seen, sizeof(seen))); // B1: nothing went out before it
	(void)atomic_fetch_add(&book->forsaken[disk], 1);
}

static void book_hold(struct book *book, bool held)
{
	(void)pthread_mutex_lock(&book->lock);
	book->held = held;
	(void)pthread_cond_broadcast(&book->changed);
	(void)pthread_mutex_unlock(&book->lock);
}

static bool book_has(struct book *book, unsigned disk, unsigned region)
{
	(void)pthread_mutex_lock(&book->lock);
	bool marked = book->marked[disk][region];
	(void)pthread_mutex_unlock(&book->lock);
	return marked;
}

static struct place *place_with(struct book *book)
{
	*book = (struct book){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct place *p = place_new();
	p->config.marker =
		(struct export_marker){.commit = book_commit, .note = book_note, .lose = book_lose, .forsake = book_forsake, .context = book};
	book->place = p;
	return p;
}

static void export_write_reaches_the_image_when_its_mark_is_made(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	place_start(p);
	int fd = dial_disk(p, "vda"), other = dial_disk(p, "vdb");
	unsigned char data[4096], seen[4096];
	uint64_t cookie;
	memset(data, 7, sizeof(data));
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	assert_true(book_has(&book, 0, 0));
	book_hold(&book, true);
	put_request(fd, CMD_WRITE, 1, REGION_SIZE, 4096);
	put_all(fd, data, 4096);
	assert_int_equal(ask(other, CMD_READ, 0, 4096, seen), 0); // the loop does not wait
	read_image(p, 0, REGION_SIZE, seen, sizeof(seen));
	assert_true(bytes_zero(seen, sizeof(seen)));
	book_hold(&book, false);
	assert_int_equal(get_reply(fd, &cookie), 0);
	assert_true(book_has(&book, 0, 1) && !book_has(&book, 1, 0));
	(void)close(fd);
	(void)close(other);
	place_stop(p);
	struct export_stats stats;
	export_stats(p->export, 0, &stats);
	assert_int_equal(stats.marked_regions, 2);
	assert_false(stats.tracking_lost);
	place_free(p);
}

static void export_goes_on_and_says_so_when_marks_cannot_be_made(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	book.res = -ENOSPC;
	place_start(p);
	int fd = dial_disk(p, "vda");
	unsigned char data[4096] = {1};
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	assert_int_equal(ask(fd, CMD_WRITE, REGION_SIZE, 4096, data), 0);
	struct export_stats stats;
	export_stats(p->export, 0, &stats);
	assert_true(stats.tracking_lost);
	assert_non_null(strstr(stats.tracking_error, "Z: mark regions of disk vda: write the state file"));
	export_stats(p->export, 1, &stats);
	assert_false(stats.tracking_lost);
	assert_int_equal(book.commits, 1);
	(void)close(fd);
	place_stop(p);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 2 * PIECE_SIZE);
	place_free(p);
}

static struct export_stats stats_of(const struct place *p, uint16_t disk)
{
	struct export_stats stats;
	export_stats(p->export, disk, &stats);
	return stats;
}

static void export_goes_on_when_marks_do_not_come_and_notes_it_before(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	unsigned char data[4096], seen[4096];
	memset(data, 7, sizeof(data));
	p->config.mark_wait_ms_max = 20;
	p->config.note_wait_ms_max = 600000; // the note comes
	struct err err = {0};
	if (export_open(&p->config, &p->export, &err))
		fail_msg("%s", err.text);
	dirty_mark(export_dirty(p->export, 1), 0, 1);
	export_set_marked(p->export, 1, export_dirty(p->export, 1)); // without a commit, which could be slow here
	assert_int_equal(export_start(p->export, &err), 0);
	int fd = dial_disk(p, "vda"), other = dial_disk(p, "vdb"), witness = dial_disk(p, "vdb");
	book.witness = witness;
	book_hold(&book, true);
	assert_int_equal(ask(fd, CMD_WRITE, REGION_SIZE, 4096, data), 0); // while the commit hangs
	assert_int_equal(book.notes[0], 1);
	assert_int_equal(book.losses[0], 0);
	assert_true(stats_of(p, 0).tracking_lost && !stats_of(p, 1).tracking_lost);
	assert_non_null(strstr(stats_of(p, 0).tracking_error, "Z: mark regions of disk vda: the state directory has not answered for "));
	assert_int_equal(ask(other, CMD_WRITE, 0, 4096, data), 0); // a marked region: nobody waits
	assert_false(stats_of(p, 1).tracking_lost);
	assert_int_equal(ask(other, CMD_WRITE, REGION_SIZE, 4096, data), 0); // waits for the same commit
	assert_true(stats_of(p, 1).tracking_lost);
	assert_int_equal(book.notes[1], 1);
	read_image(p, 1, REGION_SIZE, seen, sizeof(seen));
	assert_memory_equal(seen, data, sizeof(seen));
	book_hold(&book, false);
	assert_int_equal(ask(fd, CMD_WRITE, 2 * REGION_SIZE, 4096, data), 0);
	(void)close(fd);
	(void)close(other);
	(void)close(witness);
	place_stop(p);
	assert_true(book.losses[0] == 1 && book.losses[1] == 1 && book.notes[0] == 1 && book.notes[1] == 1);
	assert_int_equal(book.commits, 1); // what it ended with says nothing any more
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 2 * PIECE_SIZE);
	place_free(p);
}

static void ends(struct roll_entry *entry)
{
	assert_false(entry->ended);
}

static bool has_ended;

static void ended(struct roll_entry *entry)
{
	has_ended = entry->ended;
}

static uint64_t unwritten_pages(const struct export *export)
{
	uint64_t pages = 0;
	for (uint16_t d = 0; d < export->count; d++)
		pages += image_unwritten(&export->image[d]);
	return pages;
}

// Before a stop what guests wrote is brought to the disks; they are served meanwhile, and afterwards.
static void export_writes_out_while_it_serves(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct roll roll = ROLL_INITIALIZER;
	uint64_t pieces;
	unsigned char *data = calloc(1, 1 << 20);
	p->config.roll = &roll;
	place_start(p);
	int fd = dial_disk(p, "vda"), other = dial_disk(p, "vdb");
	for (uint64_t off = 0; off < IMAGE_SIZE; off += 1 << 20)
		assert_int_equal(ask(fd, CMD_WRITE, off, 1 << 20, data), 0);
	assert_int_equal(ask(other, CMD_WRITE, 0, 4096, data), 0);
	uint64_t moves = roll_moves(&roll);
	roll_write_out(&roll);
	assert_int_equal(ask(fd, CMD_READ, 0, 4096, data), 0);
	while (roll_writes_out(&roll, &pieces))
		(void)usleep(1000);
	assert_int_equal(unwritten_pages(p->export), 0);
	assert_true(atomic_load(&p->export->image[0].pieces) > 0);
	assert_true(roll_moves(&roll) > moves); // so the last sync of a stop is seen to go on
	(void)usleep(600000); // what has ended is synced again, for as long as others take
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	roll_write_out(&roll);
	for (unsigned i = 0; i < 5000 && unwritten_pages(p->export); i++)
		(void)usleep(1000);
	assert_int_equal(unwritten_pages(p->export), 0);
	assert_false(roll_writes_out(&roll, &pieces)); // and nobody waits for that
	(void)close(fd);
	(void)close(other);
	place_stop(p);
	export_write_out(p->export); // nobody is there any more
	assert_false(export_writes_out(p->export, &pieces));
	place_free(p);
	free(data);
}

// Asked at the same time as to end, and of one that has ended: the stop syncs everything itself.
static void export_that_ends_writes_out_no_more(void **unused)
{
	(void)unused;
	uint64_t pieces;
	for (unsigned i = 0; i < 20; i++) {
		struct place *p = place_new();
		place_start(p);
		int fd = dial_disk(p, "vda");
		unsigned char data[4096] = {7};
		assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
		if (i % 2)
			export_end(p->export);
		export_write_out(p->export);
		(void)close(fd);
		place_stop(p);
		assert_false(export_writes_out(p->export, &pieces));
		place_free(p);
	}
}

// Told by the roll, while the marks of a state directory hang: what the guest wrote is served and synced, its connections end, and so does the loop.
static void export_ends_while_its_marks_hang(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	struct roll roll = ROLL_INITIALIZER;
	unsigned char data[4096], seen[4096];
	memset(data, 7, sizeof(data));
	p->config.mark_wait_ms_max = p->config.note_wait_ms_max = 20;
	p->config.roll = &roll;
	place_start(p);
	int fd = dial_disk(p, "vda"), idle = dial_disk(p, "vdb");
	book_hold(&book, true);
	assert_int_equal(ask(fd, CMD_WRITE, REGION_SIZE, 4096, data), 0);
	roll_each(&roll, ends);
	uint64_t moves = roll_moves(&roll);
	roll_end(&roll);
	roll_end(&roll); // once is enough
	assert_true(closed_by_peer(fd) && closed_by_peer(idle));
	for (has_ended = false; !has_ended; roll_each(&roll, ended))
		(void)usleep(1000);
	assert_true(roll_moves(&roll) > moves);
	struct source_cut cut;
	assert_int_equal(source_cut(export_source(p->export), CUT_POINT, &cut, NULL), -ESHUTDOWN); // a cycle is told
	source_mark_all(export_source(p->export));
	read_image(p, 0, REGION_SIZE, seen, sizeof(seen));
	assert_memory_equal(seen, data, sizeof(seen));
	book_hold(&book, false);
	(void)close(fd);
	(void)close(idle);
	place_stop(p); // joins
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), IMAGE_SIZE);
	place_free(p);
	assert_null(roll.first);
}

static void export_does_not_wait_for_a_note_that_hangs_either(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	unsigned char data[4096] = {7};
	p->config.mark_wait_ms_max = p->config.note_wait_ms_max = 20;
	place_start(p);
	int fd = dial_disk(p, "vda");
	book.note_held = true;
	book_hold(&book, true);
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	assert_int_equal(ask(fd, CMD_READ, 0, 4096, data), 0);
	assert_true(stats_of(p, 0).tracking_lost);
	assert_int_equal(book.notes[0], 0);
	book.note_held = false;
	book_hold(&book, false);
	(void)close(fd);
	place_stop(p);
	assert_true(book.losses[0] == 1 && book.notes[0] == 1);
	place_free(p);
}

// The thread that would write the note cannot be started: the disk's tracking is lost all the same, and that is said before the writes go on.
static void export_forsakes_a_disk_when_there_is_no_thread_for_the_note(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	unsigned char data[4096] = {7};
	pthread_attr_t usual, vast;
	p->config.mark_wait_ms_max = p->config.note_wait_ms_max = 20;
	place_start(p);
	int fd = dial_disk(p, "vda");
	(void)pthread_attr_init(&vast);
	assert_int_equal(pthread_getattr_default_np(&usual), 0);
	assert_int_equal(pthread_attr_setstacksize(&vast, SIZE_MAX / 4096 * 4096 / 2), 0); // more than there are addresses
	assert_int_equal(pthread_setattr_default_np(&vast), 0);
	book_hold(&book, true);
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	assert_int_equal(pthread_setattr_default_np(&usual), 0);
	assert_true(stats_of(p, 0).tracking_lost);
	assert_int_equal(atomic_load(&book.forsaken[0]), 1);
	assert_int_equal(atomic_load(&book.forsaken[1]), 0);
	book_hold(&book, false);
	(void)close(fd);
	place_stop(p);
	assert_true(book.losses[0] == 0 && book.notes[0] == 0);
	(void)pthread_attr_destroy(&vast);
	(void)pthread_attr_destroy(&usual);
	place_free(p);
}

static void export_clears_marks_after_keep_and_starts_with_those_it_is_given(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	struct err err = {0};
	unsigned char *replica[2] = {calloc(1, IMAGE_SIZE), calloc(1, IMAGE_SIZE)};
	p->config.sweep_rest_ms = 1;
	if (export_open(&p->config, &p->export, &err))
		fail_msg("%s", err.text);
	dirty_mark(export_dirty(p->export, 0), 3 * REGION_SIZE, 1);
	export_set_marked(p->export, 0, export_dirty(p->export, 0));
	book.marked[0][3] = true;
	assert_int_equal(export_start(p->export, &err), 0);
	int fd = dial_disk(p, "vda");
	unsigned char data[4096] = {1};
	assert_int_equal(ask(fd, CMD_WRITE, 3 * REGION_SIZE, 4096, data), 0);
	assert_int_equal(book.commits, 0);
	assert_int_equal(ask(fd, CMD_WRITE, 2 * REGION_SIZE, 4096, data), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(cycle(export_source(p->export), CUT_POINT, replica), 0);
		assert_int_equal(source_keep(export_source(p->export), NULL), 0);
		(void)usleep(2000); // the marks have had their rest
	}
	struct export_cut_stats cuts;
	export_cut_stats(p->export, &cuts);
	assert_int_equal(cuts.count, 2);
	assert_true(export_cut_percentile(&cuts, 99) <= cuts.max_us);
	(void)close(fd);
	place_stop(p); // the last commit has ended
	assert_false(book.marked[0][2] || book.marked[0][3]);
	free(replica[0]);
	free(replica[1]);
	place_free(p);
}

static void export_tells_what_a_keep_of_a_moment_after_another_left_unsynced(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	unsigned char data[4096] = {1}, *replica[2] = {calloc(1, IMAGE_SIZE), calloc(1, IMAGE_SIZE)};
	p->config.sweep_rest_ms = 3600 * 1000;
	place_start(p);
	struct source *source = export_source(p->export);
	int fd = dial_disk(p, "vda");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(ask(fd, CMD_WRITE, REGION_SIZE, 4096, data), 0);
		assert_int_equal(cycle(source, CUT_POINT, replica), 0);
		assert_int_equal(source_keep(source, NULL), 0);
		assert_int_equal(stats_of(p, 0).unsynced_bytes, i * BLOCK_SIZE);
		assert_int_equal(stats_of(p, 1).unsynced_bytes, 0);
	}
	(void)close(fd);
	place_stop(p);
	free(replica[0]);
	free(replica[1]);
	place_free(p);
}

static void short_last_region_costs_what_is_in_it(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	struct err err = {0};
	struct export_stats stats;
	place_start(p);
	assert_int_equal(export_grow(p->export, 0, IMAGE_SIZE + PIECE_SIZE, &err), 0); // what is new is marked
	place_stop(p);
	export_stats(p->export, 0, &stats);
	assert_int_equal(stats.marked_regions, 1);
	assert_int_equal(stats.marked_bytes, PIECE_SIZE);
	place_free(p);
}

static void export_grows_a_disk_while_it_is_served(void **unused)
{
	(void)unused;
	struct book book;
	struct place *p = place_with(&book);
	struct err err = {0};
	struct stat st;
	place_start(p);
	int fd = dial_disk(p, "vda");
	unsigned char data[4096] = {9};
	assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
	assert_int_equal(export_grow(p->export, 0, IMAGE_SIZE, &err), -EINVAL);
	assert_int_equal(export_grow(p->export, 0, IMAGE_SIZE + (8 << 20), &err), 0);
	assert_true(export_disk_size(p->export, 0) == IMAGE_SIZE + (8 << 20));
	assert_int_equal(stat(p->image[0], &st), 0);
	assert_true((uint64_t)st.st_size == IMAGE_SIZE + (8 << 20));
	assert_int_equal(ask(fd, CMD_READ, 0, 4096, data), 0); // the connection lives on
	assert_int_equal(data[0], 9);
	assert_int_equal(ask(fd, CMD_READ, IMAGE_SIZE, 4096, data), EINVAL); // as it was negotiated
	assert_int_equal(ask(fd, CMD_WRITE, IMAGE_SIZE - 512, 4096, data), ENOSPC);
	unsigned char option[64] = "IHAVEOPT\0\0\0\1\0\0\0\3vda", answer[10];
	int later = dial(p);
	put_all(later, option, 19);
	get_all(later, answer, sizeof(answer));
	assert_true(get_be64(answer) == IMAGE_SIZE + (8 << 20));
	assert_int_equal(ask(later, CMD_WRITE, IMAGE_SIZE + (8 << 20) - 4096, 4096, data), 0);
	(void)close(fd);
	(void)close(later);
	place_stop(p);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), (8 << 20) + PIECE_SIZE);
	assert_int_equal(book.commits, 1); // the new range was marked before
	place_free(p);
}

// ---- the tools of others

static bool have(const char *tool)
{
	char command[128];
	(void)snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", tool);
	return system(command) == 0; // NOLINT: a fixed text
}

static int run(const struct place *p, const char *format)
{
	char uri[256], command[1024];
	export_uri(p->export, 0, uri, sizeof(uri));
	(void)snprintf(command, sizeof(command), format, uri, uri);
	int status = system(command); // NOLINT: a fixed text
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

enum { LARGE = 1 << 20, SMALL = 5000, PAIRS = 30 };

static unsigned char filled_with(uint64_t at)
{
	return (unsigned char)(at * 31 + at / 4099);
}

static void fill_image(const struct place *p, unsigned disk)
{
	unsigned char *data = malloc(IMAGE_SIZE);
	for (uint64_t i = 0; i < IMAGE_SIZE; i++)
		data[i] = filled_with(i);
	int fd = open(p->image[disk], O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, data, IMAGE_SIZE, 0), IMAGE_SIZE);
	(void)close(fd);
	free(data);
}

static void get_filled(int fd, uint64_t off, uint32_t len)
{
	unsigned char *data = malloc(len);
	get_all(fd, data, len);
	for (uint64_t i = off; i < off + len; i++)
		assert_int_equal(data[i - off], filled_with(i));
	free(data);
}

static uint64_t large_at(unsigned i)
{
	return (uint64_t)i * LARGE + i;
}

static void put_pairs(int fd, unsigned pairs)
{
	for (unsigned i = 0; i < pairs; i++) {
		put_request(fd, CMD_READ, 2 * i, large_at(i), LARGE);
		put_request(fd, CMD_READ, 2 * i + 1, IMAGE_SIZE - large_at(i) - SMALL, SMALL);
	}
}

static void get_pairs(int fd, unsigned pairs)
{
	for (unsigned n = 0; n < 2 * pairs; n++) {
		uint64_t cookie;
		assert_int_equal(get_reply(fd, &cookie), 0);
		uint64_t off = large_at((unsigned)cookie / 2);
		if (cookie % 2)
			get_filled(fd, IMAGE_SIZE - off - SMALL, SMALL);
		else
			get_filled(fd, off, LARGE);
	}
}

// Large replies leave from the page cache, small ones from memory, whatever the socket takes.
static void slow_client_gets_large_and_small_reads_whole(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	fill_image(p, 0);
	place_start(p);
	int fd = dial_disk(p, "vda"), other = dial_disk(p, "vda");
	unsigned char byte = 0;
	put_pairs(fd, PAIRS);
	assert_int_equal(ask(other, CMD_READ, 1, 1, &byte), 0); // and nobody waits for the slow one
	get_pairs(fd, PAIRS);
	(void)close(other);
	(void)close(fd);
	place_stop(p);
	place_free(p);
}

// More than rests before the first trial and the trial itself: so some of it leaves in place and some copied (send_way.h), among small reads.
static void s1_large_reads_are_the_same_in_place_and_copied(void **unused)
{
	(void)unused;
	enum { AT_ONCE = 4, ROUNDS = (SEND_FIRST_REST + SEND_TRIAL_WINDOWS * (SEND_SETTLE_BYTES + SEND_WINDOW_BYTES + (SEND_WINDOW_DEPTHS + 2) * AT_ONCE * LARGE)) / LARGE / AT_ONCE + 4 };
	struct place *p = place_new();
	struct export_stats before, after;
	fill_image(p, 0);
	place_start(p);
	int fd = dial_disk(p, "vda");
	export_stats(p->export, 0, &before);
	for (unsigned round = 0; round < ROUNDS; round++) {
		put_pairs(fd, AT_ONCE);
		get_pairs(fd, AT_ONCE);
	}
	export_stats(p->export, 0, &after);
	assert_int_equal(after.reads - before.reads, 2 * AT_ONCE * ROUNDS);
	assert_int_equal(after.read_bytes - before.read_bytes, (uint64_t)AT_ONCE * ROUNDS * (LARGE + SMALL));
	(void)close(fd);
	place_stop(p);
	place_free(p);
}

static void client_that_leaves_in_a_large_reply_disturbs_nobody(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	fill_image(p, 0);
	place_start(p);
	int other = dial_disk(p, "vda");
	for (unsigned i = 0; i < 8; i++) {
		uint64_t cookie;
		int fd = dial_disk(p, "vda");
		put_pairs(fd, PAIRS);
		assert_int_equal(get_reply(fd, &cookie), 0);
		get_all(fd, (unsigned char[1]){0}, 1);
		(void)close(fd);
	}
	put_request(other, CMD_READ, 5, 3, LARGE);
	uint64_t cookie;
	assert_int_equal(get_reply(other, &cookie), 0);
	get_filled(other, 3, LARGE);
	(void)close(other);
	place_stop(p);
	place_free(p);
}

// Data is in a pipe before its head leaves, so that what can no longer be read is answered with an error and the connection goes on. What was under way when the
// file was cut are pages of the file, which the kernel may have emptied; nothing else comes in their place.
enum { READS = 16 }; // more than the socket takes, so that most of it is read after the cut

// So many large reads of one connection, and the image is cut under them after the first. How many failed: of a disk that was slow for a moment all may have been read before.
static unsigned reads_over_a_cut(const struct place *p, int fd)
{
	const uint64_t off = IMAGE_SIZE - LARGE;
	for (unsigned i = 0; i < READS; i++)
		put_request(fd, CMD_READ, i, off, LARGE);
	uint64_t cookie;
	unsigned failed = 0;
	unsigned char *data = malloc(LARGE);
	for (unsigned n = 0; n < READS; n++) {
		uint32_t error = get_reply(fd, &cookie);
		assert_true(error == 0 || (n > 0 && error == 5)); // EIO
		if (n == 0)
			assert_int_equal(truncate(p->image[0], (off_t)off), 0);
		if (error == 0)
			get_all(fd, data, LARGE);
		for (uint64_t i = 0; error == 0 && i < LARGE; i++)
			assert_true(data[i] == 0 || data[i] == filled_with(off + i));
		failed += error != 0;
	}
	free(data);
	assert_int_equal(ask(fd, CMD_READ, 1, 1, &(unsigned char){0}), 0);
	return failed;
}

static void large_read_of_an_image_cut_short_is_never_filled_up(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	fill_image(p, 0);
	place_start(p);
	for (unsigned tries = 0, failed = 0; failed <= READS / 2; tries++) {
		assert_true(tries < 50);
		fill_image(p, 0);
		int fd = dial_disk(p, "vda");
		failed = reads_over_a_cut(p, fd);
		(void)close(fd);
	}
	int next = dial_disk(p, "vda");
	assert_int_equal(ask(next, CMD_READ, IMAGE_SIZE - LARGE, LARGE, NULL), 5); // EIO
	assert_int_equal(ask(next, CMD_READ, 1, 1, &(unsigned char){0}), 0);
	(void)close(next);
	struct err err = {0};
	(void)export_stop(p->export, &err);
	place_free(p);
}

static void export_serves_qemu_io(void **unused)
{
	(void)unused;
	if (!have("qemu-io"))
		skip();
	struct place *p = place_new();
	place_start(p);
	assert_int_equal(run(p, "qemu-io -f raw -c 'write -P 7 100 5000' -c 'read -P 7 100 5000' -c 'write -P 3 1M 8M' "
				"-c 'discard 2M 1M' -c 'write -z 4M 1M' -c 'write -z -u 5M 1M' -c flush -c 'write -f -P 9 511 1' "
				"-c 'read -P 0 2M 1M' -c 'read -P 0 4M 2M' -c 'read -P 3 6M 3M' '%s' >/dev/null"),
			 0);
	place_stop(p);
	place_free(p);
}

static void export_serves_libnbd(void **unused)
{
	(void)unused;
	if (!have("nbdinfo") || !have("nbdcopy"))
		skip();
	struct place *p = place_new();
	place_start(p);
	assert_int_equal(run(p, "nbdinfo '%s' >/dev/null"), 0);
	assert_int_equal(run(p, "nbdinfo --map '%s' | grep -q hole"), 0);
	assert_int_equal(run(p, "head -c 20000000 /proc/self/exe | nbdcopy - '%s'"), 0);
	assert_int_equal(run(p, "nbdcopy '%s' '%s'"), 0);
	place_stop(p);
	place_free(p);
}

static void cuts_that_guests_overtake_are_counted_with_why(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct source_cut cut;
	struct export_cut_stats cuts;
	struct err err;
	unsigned char *data = calloc(1, 4 << 20);
	p->config.preserve_bytes_max = BLOCK_SIZE;
	p->config.spill_dir = NULL;
	place_start(p);
	struct source *source = export_source(p->export);
	int fd = dial_disk(p, "vda");
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(ask(fd, CMD_WRITE, 0, 4 << 20, data), 0);
		assert_int_equal(source_cut(source, CUT_POINT, &cut, &err), 0);
		assert_int_equal(ask(fd, CMD_WRITE, 0, 4 << 20, data), 0); // the guest goes on
		source_give_back(source);
		assert_int_equal(ask(fd, CMD_READ, 0, 4096, data), 0); // a turn of the loop later it has looked
		export_cut_stats(p->export, &cuts);
		assert_int_equal(cuts.overtaken, i);
		assert_non_null(strstr(cuts.overtaken_why, "guests overwrote more of it than is kept"));
		assert_int_equal(cuts.given_up, 0);
	}
	(void)close(fd);
	free(data);
	place_stop(p);
	place_free(p);
}

static void cut_of_a_failed_disk_says_which_and_why(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct source_cut cut;
	struct err err;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	struct group *group = &p->export->group;
	uint16_t last = (uint16_t)(p->export->count - 1);
	assert_true(last > 0);
	export_on_error(group, &group->volume[0], FAULT_READ, 4096, -EIO); // and went on
	group->volume[last].failed = -EIO;
	export_on_error(group, &group->volume[last], FAULT_SYNC, 0, -EIO);
	assert_int_equal(export_start(p->export, &err), 0);
	assert_int_equal(source_cut(export_source(p->export), CUT_POINT, &cut, &err), -EIO);
	char want[64];
	(void)snprintf(want, sizeof(want), "disk %s of %s failed", p->config.disk[last].name, p->config.protection);
	assert_non_null(strstr(err.text, want));
	assert_non_null(strstr(err.text, ": sync of image "));
	assert_string_equal(stats_of(p, 0).error + strlen(stats_of(p, 0).error) - strlen("Input/output error"), "Input/output error");
	assert_false(stats_of(p, 0).failed);
	assert_true(stats_of(p, last).failed);
	assert_int_equal(export_stop(p->export, &err), -EIO);
	place_free(p);
}

static int sync_fails; // the next sync of a whole image that is not the guest's

static int sync_of(int fd, long number)
{
	errno = sync_fails;
	sync_fails = 0;
	return errno ? -1 : (int)syscall(number, fd);
}

int fsync(int fd)
{
	return sync_of(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_of(fd, SYS_fdatasync);
}

static void make_run_dir(struct place *p, char dir[160])
{
	(void)snprintf(dir, 160, "%s/run", p->dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	p->config.run_dir = dir;
}

static void drop_run_dir(const char *dir)
{
	char command[200];
	(void)snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static void fail_sync(struct place *p, uint16_t disk)
{
	struct volume *volume = &p->export->group.volume[disk];
	volume->failed = -EIO;
	export_on_error(&p->export->group, volume, FAULT_SYNC, 0, -EIO);
}

static void await_nobody(const struct place *p, uint16_t disk)
{
	for (unsigned i = 0; stats_of(p, disk).clients && i < 2000; i++)
		(void)usleep(5000);
	assert_int_equal(stats_of(p, disk).clients, 0);
}

// G5
static void sync_that_failed_is_known_to_the_next_agent_until_its_operator_clears_it(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	char run[160], error[ERR_TEXT_MAX], data[512] = {1};
	make_run_dir(p, run);
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	fail_sync(p, 0);
	(void)snprintf(error, sizeof(error), "%s", stats_of(p, 0).error);
	export_close(p->export);

	place_start(p);
	assert_true(stats_of(p, 0).failed && !stats_of(p, 1).failed);
	assert_string_equal(stats_of(p, 0).error, error);
	int fd = dial_disk(p, "vda");
	assert_int_equal(ask(fd, CMD_FLUSH, 0, 0, NULL), 5); // EIO
	assert_int_equal(ask(fd, CMD_WRITE | CMD_FUA, 0, sizeof(data), data), 5);
	assert_int_equal(export_clear_error(p->export, 0, false, &err), -EBUSY);
	assert_non_null(strstr(err.text, "shut the guest down first"));
	(void)close(fd);
	await_nobody(p, 0);
	assert_int_equal(export_clear_error(p->export, 1, false, &err), -EINVAL);
	assert_int_equal(export_clear_error(p->export, 0, true, &err), 0);
	sync_fails = EIO;
	assert_int_equal(export_clear_error(p->export, 0, false, &err), -EIO);
	assert_non_null(strstr(err.text, "repair the storage under it"));
	assert_non_null(strstr(err.text, "stop the replicator, repair, start it, then `kagami clear-error vm1 vda`: sync image "));
	assert_true(stats_of(p, 0).failed);
	assert_int_equal(export_clear_error(p->export, 0, false, &err), 0);
	assert_false(stats_of(p, 0).failed);
	assert_string_equal(stats_of(p, 0).error, "");
	fd = dial_disk(p, "vda");
	assert_int_equal(ask(fd, CMD_FLUSH, 0, 0, NULL), 0);
	(void)close(fd);
	place_stop(p);
	export_close(p->export);
	place_start(p);
	assert_false(stats_of(p, 0).failed);
	place_stop(p);
	drop_run_dir(run);
	place_free(p);
}

// G5: the kernel tells an error of what was written before it once, and the first to ask is the start's look.
static void sync_that_fails_as_a_start_looks_at_a_device_fails_that_disk(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	p->export->image[1].block_device = true; // whose unwritten pages are settled before its counts are read
	sync_fails = EIO;
	assert_int_equal(export_judge(p->export, 1), REST_DISTURBED);
	assert_int_equal(sync_fails, 0);
	p->export->image[1].block_device = false;
	assert_int_equal(export_start(p->export, &err), 0);
	assert_true(stats_of(p, 1).failed && !stats_of(p, 0).failed);
	int fd = dial_disk(p, "vdb");
	assert_int_equal(ask(fd, CMD_FLUSH, 0, 0, NULL), 5); // EIO
	(void)close(fd);
	assert_int_equal(export_stop(p->export, &err), -EIO);
	place_free(p);
}

static void image_that_was_put_in_the_place_of_one_that_failed_has_not(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	char run[160], other[224];
	make_run_dir(p, run);
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	fail_sync(p, 0);
	export_close(p->export);
	(void)snprintf(other, sizeof(other), "%s.new", p->image[0]);
	make_image(other, IMAGE_SIZE);
	assert_int_equal(rename(other, p->image[0]), 0);
	place_start(p);
	assert_false(stats_of(p, 0).failed);
	place_stop(p);
	drop_run_dir(run);
	place_free(p);
}

// Whether the next start has it failed.
static bool starts_failed(struct place *p)
{
	struct err err;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	bool failed = stats_of(p, 0).failed;
	export_close(p->export);
	return failed;
}

static void fail_once(struct place *p, int64_t born_ns)
{
	struct err err;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	p->export->image[0].born_ns += born_ns;
	fail_sync(p, 0);
	export_close(p->export);
}

static void note_of_a_failed_disk_is_of_one_image_of_one_protection(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	char run[160];
	make_run_dir(p, run);
	p->config.uuid = (struct uuid){{1, 2, 3}};
	fail_once(p, 0);
	assert_true(starts_failed(p));
	p->config.uuid.bytes[15] = 1; // as one that was unprotected, and protected with another image
	assert_false(starts_failed(p));
	fail_once(p, 0);
	assert_true(starts_failed(p));
	p->config.uuid.bytes[15] = 2;
	fail_once(p, 1); // a file that has the inode of one that was removed
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	bool known = p->export->image[0].born_ns != 0;
	export_close(p->export);
	assert_int_equal(starts_failed(p), !known);
	assert_int_equal(export_open(&p->config, &p->export, &err), 0); // which place_free() closes
	drop_run_dir(run);
	place_free(p);
}

// As in a run directory that is full.
static void note_of_a_failed_disk_needs_no_room_for_its_text(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err = {0};
	const struct failed_note_of of = {.inode = 7};
	char run[160], why[ERR_TEXT_MAX];
	bool failed = false;
	make_run_dir(p, run);
	limit_files(0);
	int rc = failed_note_write(run, "vm1", "vda", &of, "at ten: it broke", &err);
	limit_files(RLIM_INFINITY);
	assert_int_equal(rc, 0);
	assert_int_equal(failed_note_read(run, "vm1", "vda", &of, &failed, why, &err), 0);
	assert_true(failed && !*why);
	drop_run_dir(run);
	place_free(p);
}

// Where the run directory is on a disk, or full.
static void disk_of_which_no_rest_is_noted_would_be_compared_as_a_whole(void **unused)
{
	(void)unused;
	if (access("/dev/shm", W_OK) != 0)
		skip();
	for (unsigned noted = 0; noted < 2; noted++) {
		struct place *p = place_new();
		char run[] = "/dev/shm/kagami-export-run.XXXXXX", command[100];
		assert_non_null(mkdtemp(run));
		p->config.run_dir = run;
		(void)snprintf(command, sizeof(command), "stat -f -c %%T %s | grep -q tmpfs", run);
		bool in_memory = system(command) == 0;
		struct err err = {0};
		assert_int_equal(export_open(&p->config, &p->export, &err), 0);
		limit_files(noted ? RLIM_INFINITY : 0);
		int rc = export_start(p->export, &err);
		limit_files(RLIM_INFINITY);
		assert_int_equal(rc, 0);
		assert_int_equal(stats_of(p, 0).untold, !noted || !in_memory);
		place_stop(p);
		drop_run_dir(run);
		place_free(p);
	}
}

static void note_whose_image_is_not_all_known_counts(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	char run[160], note[192], why[ERR_TEXT_MAX];
	bool failed;
	make_run_dir(p, run);
	(void)snprintf(note, sizeof(note), "%s/failed/vm1:vda", run);
	const struct {
		struct failed_note_of noted, is;
		bool failed;
	} cases[] = {
		{{.inode = 5, .born_ns = -7}, {.inode = 5, .born_ns = -7}, true}, {{.inode = 5, .born_ns = 7}, {.inode = 5, .born_ns = 8}, false},
		{{.inode = 5, .born_ns = 7}, {.inode = 5}, true},		  {{.inode = 5}, {.inode = 5, .born_ns = 7}, true},
		{{.inode = 5, .born_ns = 7}, {.inode = 6, .born_ns = 7}, false}, {{.inode = 0}, {.inode = 0}, true},
		{{.inode = 0}, {.inode = 6, .born_ns = 7}, true},		  {{.protection = {{9}}}, {.inode = 0}, false},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(failed_note_write(run, "vm1", "vda", &cases[i].noted, "at ten: it broke", &err), 0);
		assert_int_equal(failed_note_read(run, "vm1", "vda", &cases[i].is, &failed, why, &err), 0);
		assert_int_equal(failed, cases[i].failed);
		assert_string_equal(why, "at ten: it broke");
	}
	struct stat st;
	assert_int_equal(stat(note, &st), 0);
	for (off_t len = st.st_size - (off_t)strlen("at ten: it broke") - 1; len >= 0; len--) { // cut before its first line ends
		assert_int_equal(truncate(note, len), 0);
		assert_int_equal(failed_note_read(run, "vm1", "vda", &cases[7].is, &failed, why, &err), 0);
		assert_true(failed && !why[0]);
	}
	assert_int_equal(failed_note_remove_all(run, "vm", &err), 0);
	assert_int_equal(access(note, F_OK), 0);
	assert_int_equal(failed_note_remove_all(run, "vm1", &err), 0);
	assert_int_equal(access(note, F_OK), -1);
	drop_run_dir(run);
	assert_int_equal(failed_note_remove_all(run, "vm1", &err), 0);
	place_free(p);
}

// A start that comes to nothing is tried again for as long as it does.
static void failure_of_before_a_start_is_told_once_by_one_that_serves(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	struct env_root *root = NULL;
	struct events *events = NULL;
	char run[160];
	make_run_dir(p, run);
	fail_once(p, 0);
	assert_int_equal(env_root_open(env_posix(), run, &root), 0);
	assert_int_equal(events_open(env_posix(), root, &events, &err), 0);
	events_set_default(events);
	assert_int_equal(mkdir(p->socket, 0700), 0); // what fails behind the open
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(export_open(&p->config, &p->export, &err), 0);
		assert_int_equal(export_start(p->export, &err), -EEXIST);
		export_close(p->export);
	}
	assert_int_equal(events_count(events, "state"), 0);
	assert_int_equal(rmdir(p->socket), 0);
	place_start(p);
	assert_int_equal(events_count(events, "state"), 1);
	(void)export_stop(p->export, &err); // its image has failed
	assert_int_equal(events_count(events, "state"), 1);
	events_set_default(NULL);
	events_close(events);
	env_root_close(root);
	drop_run_dir(run);
	place_free(p);
}

static void start_fails_where_it_is_not_known_whether_a_disk_failed(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	char run[160], note[192];
	make_run_dir(p, run);
	fail_once(p, 0);
	(void)snprintf(note, sizeof(note), "%s/failed/vm1:vda", run);
	assert_int_equal(unlink(note), 0);
	assert_int_equal(symlink("nowhere", note), 0); // as any error of open()
	assert_int_equal(export_open(&p->config, &p->export, &err), -ELOOP);
	assert_non_null(strstr(err.text, note));
	assert_int_equal(unlink(note), 0);
	place_start(p);
	assert_false(stats_of(p, 0).failed);
	place_stop(p);
	drop_run_dir(run);
	place_free(p);
}

// G5: what a sync beside the guest's was told, the guest's own may not be told any more.
static void sync_beside_the_guests_that_fails_fails_the_disk(void **unused)
{
	(void)unused;
	struct source_run runs[4];
	struct err err;
	bool all;
	for (unsigned i = 0; i < 2; i++) {
		struct place *p = place_new();
		place_start(p);
		sync_fails = EIO;
		if (i == 0)
			assert_int_equal(export_grow(p->export, 0, IMAGE_SIZE + (8 << 20), &err), -EIO);
		else
			(void)source_holes(export_source(p->export), runs, 4, &all);
		assert_true(stats_of(p, 0).failed && !stats_of(p, 1).failed);
		int fd = dial_disk(p, "vda");
		assert_int_equal(ask(fd, CMD_FLUSH, 0, 0, NULL), 5); // EIO
		(void)close(fd);
		assert_int_equal(export_stop(p->export, &err), -EIO);
		place_free(p);
	}
}

// Whether one more is served than there are.
static bool served(const struct place *p)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char greeting;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)snprintf(to.sun_path, sizeof(to.sun_path), "%.100s", p->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	bool is = recv(fd, &greeting, 1, 0) == 1;
	(void)close(fd);
	return is;
}

static void export_has_connections_for_every_disk_and_some_besides(void **unused)
{
	(void)unused;
	enum { DISKS = 17 };
	struct place *p = place_new();
	int fd[4 * DISKS];
	for (unsigned d = 2; d < DISKS; d++) { // the place has two
		char path[192];
		(void)snprintf(path, sizeof(path), "%s/%u.raw", p->dir, d);
		make_image(path, IMAGE_SIZE);
		(void)snprintf(p->config.disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		p->config.disk[d].path = strdup(path);
	}
	p->config.disk_count = DISKS;
	place_start(p);
	for (unsigned i = 0; i < 4 * DISKS; i++)
		fd[i] = dial_disk(p, p->config.disk[i % DISKS].name);
	assert_false(served(p));
	for (unsigned i = 0; i < 4 * DISKS; i++)
		(void)close(fd[i]);
	place_stop(p);
	for (unsigned d = 2; d < DISKS; d++) {
		(void)unlink(p->config.disk[d].path);
		free((char *)p->config.disk[d].path);
	}
	p->config.disk_count = 2;
	place_free(p);
	assert_int_equal(export_clients_max(1), 64);
	assert_int_equal(export_clients_max(16), 64);
	assert_int_equal(export_clients_max(DISKS_MAX), 256);
}

// ---- what the process lacks

static bool becomes_short(const struct place *p, bool is)
{
	char text[EXPORT_SHORT_SIZE];
	for (unsigned i = 0; i < 1000; i++) {
		export_short(p->export, text);
		if ((*text != 0) == is)
			return true;
		(void)usleep(10000);
	}
	return false;
}

static unsigned lines_with(const char *text)
{
	char *lines = log_recent();
	unsigned count = 0;
	for (const char *at = lines; at && (at = strstr(at, text)) != NULL; at++)
		count++;
	free(lines);
	return count;
}

static void limit_descriptors(rlim_t most)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = most ? most : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

// Some are kept for the agent itself: whoever would take one of them is turned away. Ten times a second would be too often to say so.
static void connections_that_use_up_descriptors_are_told_once_and_it_passes(void **unused)
{
	char text[EXPORT_SHORT_SIZE];
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	int first = dial_disk(p, "vda"), taken[32], next;
	for (unsigned i = 0; i < 32; i++)
		taken[i] = dup(0);
	next = dup(0);
	(void)close(next);
	assert_true(next + 2 >= 16);
	limit_descriptors((rlim_t)next + 2); // ours takes one of two, and of an eighth at least; its other end would take the other
	for (unsigned i = 0; i < 20; i++)
		assert_false(served(p));
	assert_true(becomes_short(p, true));
	export_short(p->export, text);
	assert_non_null(strstr(text, "LimitNOFILE="));
	assert_int_equal(lines_with("no guest can connect"), 1);
	limit_descriptors((rlim_t)next); // and with none at all
	(void)usleep(300000);
	assert_true(becomes_short(p, true));
	assert_int_equal(lines_with("no guest can connect"), 1);
	assert_int_equal(ask(first, CMD_FLUSH, 0, 0, NULL), 0);
	limit_descriptors(0);
	assert_true(becomes_short(p, false));
	assert_int_equal(lines_with("guests can connect again"), 1);
	assert_true(served(p));
	for (unsigned i = 0; i < 32; i++)
		(void)close(taken[i]);
	(void)close(first);
	place_stop(p);
	place_free(p);
}

struct miss {
	struct ring_message message;
	struct export *export;
	_Atomic bool ran, missed;
};

// Once it is known that they are there.
static void miss_workers(struct ring_message *message)
{
	struct miss *miss = HOLDER(message, struct miss, message);
	struct export *export = miss->export;
	miss->missed = !export->workers.asked;
	miss->ran = true;
	if (!miss->missed)
		return;
	workers_cancelled(&export->workers);
	export->workers.again.due_ns += UINT64_C(3600) * 1000000000; // not before it is looked at
}

// As when a worker that was there has gone: the reader does all of it, to the end, when the images are synced and nothing else is taken.
static void export_serves_without_workers_and_says_so(void **unused)
{
	char text[EXPORT_SHORT_SIZE];
	unsigned char out[70000], in[70000];
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	struct miss miss = {.message = {.run = miss_workers}, .export = p->export};
	while (!miss.missed) {
		miss.ran = false;
		assert_true(ring_post(&p->export->ring, &miss.message));
		while (!miss.ran)
			(void)usleep(1000);
	}
	assert_true(becomes_short(p, true));
	export_short(p->export, text);
	assert_non_null(strstr(text, "TasksMax="));
	assert_int_equal(lines_with("no worker thread"), 1);
	int fd = dial_disk(p, "vdb");
	memset(out, 0x77, sizeof(out));
	assert_int_equal(ask(fd, CMD_WRITE, 4096, sizeof(out), out), 0);
	assert_int_equal(ask(fd, CMD_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(ask(fd, CMD_WRITE | CMD_FUA, 1001, sizeof(out), out), 0);
	assert_int_equal(ask(fd, CMD_TRIM, 1 << 20, 1 << 20, NULL), 0);
	assert_int_equal(ask(fd, CMD_READ, 1001, sizeof(in), in), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_false(stats_of(p, 1).failed);
	assert_int_equal(stats_of(p, 1).errors, 0);
	assert_true(becomes_short(p, true));
	(void)close(fd);
	place_stop(p);
	place_free(p);
}

// ---- what the cycle reads right after a call

struct stuck { // the loop's thread stays in its run(), in the middle of a turn, until it may go on
	struct ring_message message;
	sem_t runs, may_go;
};

static void stick(struct ring_message *message)
{
	struct stuck *stuck = HOLDER(message, struct stuck, message);
	(void)sem_post(&stuck->runs);
	(void)sem_wait(&stuck->may_go);
}

static void stuck_init(struct stuck *stuck)
{
	stuck->message.run = stick;
	assert_int_equal(sem_init(&stuck->runs, 0, 0) | sem_init(&stuck->may_go, 0, 0), 0);
}

static void stuck_done(struct stuck *stuck)
{
	(void)sem_destroy(&stuck->runs);
	(void)sem_destroy(&stuck->may_go);
}

static void call_mark(struct source *source)
{
	source_mark(source, 1, 3 * REGION_SIZE, BLOCK_SIZE);
}

static void call_cut(struct source *source)
{
	struct source_cut cut;
	(void)source_cut(source, CUT_POINT, &cut, NULL);
}

static void call_grow(struct source *source)
{
	struct export *export = HOLDER(source, struct export, source);
	struct err err = {0};
	(void)export_grow(export, 0, IMAGE_SIZE + REGION_SIZE, &err);
}

struct asking {
	struct source *source;
	void (*call)(struct source *source);
	uint64_t seen; // that is dirty, right after the call
};

static void *call_and_look(void *asking)
{
	struct asking *a = asking;
	a->call(a->source);
	a->seen = source_dirty_bytes(a->source);
	return NULL;
}

// What is dirty by the word that goes round, for the caller whose call has ended, while the turn that ended it has not.
static uint64_t dirty_right_after(struct place *p, void (*call)(struct source *source))
{
	struct stuck before, behind;
	struct asking asking = {.source = export_source(p->export), .call = call};
	pthread_t thread;
	stuck_init(&before);
	stuck_init(&behind);
	assert_true(ring_post(&p->export->ring, &before.message));
	(void)sem_wait(&before.runs);
	assert_int_equal(pthread_create(&thread, NULL, call_and_look, &asking), 0);
	while (!atomic_load(&p->export->ring.messages)) // the call's; ours is behind it, in the same turn
		(void)usleep(1000);
	assert_true(ring_post(&p->export->ring, &behind.message));
	(void)sem_post(&before.may_go);
	(void)sem_wait(&behind.runs);
	(void)pthread_join(thread, NULL);
	(void)sem_post(&behind.may_go);
	stuck_done(&before);
	source_mark(asking.source, 0, 0, 0); // a call behind it: nobody is in `behind` any more
	stuck_done(&behind);
	return asking.seen;
}

// The cycle decides by it whether to take a cut of a point at once: a number of before would have it take one over all disks.
static void export_tells_what_is_dirty_as_soon_as_a_call_has_ended(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	struct source *source = export_source(p->export);
	assert_int_equal(source_dirty_bytes(source), 0);
	assert_int_equal(dirty_right_after(p, call_mark), BLOCK_SIZE);
	assert_int_equal(dirty_right_after(p, call_cut), 0);
	assert_int_equal(dirty_right_after(p, source_give_back), BLOCK_SIZE);
	assert_int_equal(dirty_right_after(p, call_grow), BLOCK_SIZE + REGION_SIZE);
	assert_int_equal(dirty_right_after(p, source_mark_all), 2 * IMAGE_SIZE + REGION_SIZE);
	place_stop(p);
	place_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_that_use_up_descriptors_are_told_once_and_it_passes),
		cmocka_unit_test(export_serves_without_workers_and_says_so),
		cmocka_unit_test(export_has_connections_for_every_disk_and_some_besides),
		cmocka_unit_test(export_reads_back_what_was_written_at_any_alignment),
		cmocka_unit_test(export_answers_many_requests_of_one_send),
		cmocka_unit_test(export_bad_requests_get_errors_and_broken_ones_end_that_connection_alone),
		cmocka_unit_test(export_every_point_is_a_prefix_of_the_writes_over_both_disks),
		cmocka_unit_test(spill_file_that_owes_an_answer_is_told),
		cmocka_unit_test(export_reads_a_cut_back_from_the_spill_file_byte_for_byte),
		cmocka_unit_test(export_gives_the_cut_up_and_not_the_guest_when_the_spill_file_is_full),
		cmocka_unit_test(export_stop_gives_an_open_cut_back),
		cmocka_unit_test(export_tells_what_is_dirty_as_soon_as_a_call_has_ended),
		cmocka_unit_test(export_gives_up_a_cut_for_a_disk_that_hangs_and_names_it),
		cmocka_unit_test(export_refuses_images_it_cannot_protect),
		cmocka_unit_test(export_replaces_a_stale_socket_and_no_other),
		cmocka_unit_test(export_gives_up_a_cut_when_the_spill_file_hangs),
		cmocka_unit_test(export_starts_though_the_socket_of_a_killed_agent_listens_for_a_moment),
		cmocka_unit_test(export_write_reaches_the_image_when_its_mark_is_made),
		cmocka_unit_test(export_goes_on_and_says_so_when_marks_cannot_be_made),
		cmocka_unit_test(export_goes_on_when_marks_do_not_come_and_notes_it_before),
		cmocka_unit_test(export_does_not_wait_for_a_note_that_hangs_either),
		cmocka_unit_test(export_ends_while_its_marks_hang),
		cmocka_unit_test(export_writes_out_while_it_serves),
		cmocka_unit_test(export_that_ends_writes_out_no_more),
		cmocka_unit_test(export_forsakes_a_disk_when_there_is_no_thread_for_the_note),
		cmocka_unit_test(export_clears_marks_after_keep_and_starts_with_those_it_is_given),
		cmocka_unit_test(export_tells_what_a_keep_of_a_moment_after_another_left_unsynced),
		cmocka_unit_test(short_last_region_costs_what_is_in_it),
		cmocka_unit_test(export_grows_a_disk_while_it_is_served),
		cmocka_unit_test(slow_client_gets_large_and_small_reads_whole),
		cmocka_unit_test(s1_large_reads_are_the_same_in_place_and_copied),
		cmocka_unit_test(client_that_leaves_in_a_large_reply_disturbs_nobody),
		cmocka_unit_test(large_read_of_an_image_cut_short_is_never_filled_up),
		cmocka_unit_test(export_serves_qemu_io),
		cmocka_unit_test(export_serves_libnbd),
		cmocka_unit_test(cut_of_a_failed_disk_says_which_and_why),
		cmocka_unit_test(sync_that_failed_is_known_to_the_next_agent_until_its_operator_clears_it),
		cmocka_unit_test(sync_that_fails_as_a_start_looks_at_a_device_fails_that_disk),
		cmocka_unit_test(image_that_was_put_in_the_place_of_one_that_failed_has_not),
		cmocka_unit_test(note_of_a_failed_disk_is_of_one_image_of_one_protection),
		cmocka_unit_test(note_of_a_failed_disk_needs_no_room_for_its_text),
		cmocka_unit_test(disk_of_which_no_rest_is_noted_would_be_compared_as_a_whole),
		cmocka_unit_test(note_whose_image_is_not_all_known_counts),
		cmocka_unit_test(start_fails_where_it_is_not_known_whether_a_disk_failed),
		cmocka_unit_test(failure_of_before_a_start_is_told_once_by_one_that_serves),
		cmocka_unit_test(sync_beside_the_guests_that_fails_fails_the_disk),
		cmocka_unit_test(cuts_that_guests_overtake_are_counted_with_why),
	};
	return cmocka_run_group_tests_name("export", tests, NULL, NULL);
}
