// SPDX-License-Identifier: Apache-2.0
// What is told of the holes of an image: what it costs where a disk is in many pieces, and that it is true.
#include "base/size.h"
#include "replicator/image.h"
#include "tests/lib/attached_image.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 64 << 20, PIECES_OF_BLOCK = BLOCK_SIZE / PIECE_SIZE };

static struct temp temp;
static struct ring ring;
static struct image image;
static int failed;

static bool counts;	  // in the place of the file: all of it is data, each piece of 4 KiB an extent
static uint64_t asked;	  // questions to the file system
static uint64_t walked; // extents that it went through for them

off_t lseek(int fd, off_t off, int whence)
{
	if (!counts || fd != image.fd)
		return syscall(SYS_lseek, fd, off, whence);
	asked++;
	if (off >= SIZE) {
		errno = ENXIO;
		return -1;
	}
	walked += whence == SEEK_HOLE ? (uint64_t)(SIZE - off) / PIECE_SIZE : 1;
	return whence == SEEK_HOLE ? SIZE : off;
}

static int set_up(void **state)
{
	(void)state;
	attached_image_begin(&temp, &ring, &image, SIZE);
	counts = false;
	asked = walked = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	counts = false;
	attached_image_end(&temp, &ring, &image);
	return 0;
}

static void need_a_file_system_that_knows(void)
{
	struct nbd_extent extent = {0};
	if (image_extents(&image, 0, SIZE, &extent, 1) != 1 || !extent.hole || extent.len != SIZE)
		skip();
}

// A client that maps a disk by small questions would else make the thread go through all of it for each.
static void small_question_costs_little_however_far_the_data_goes(void **state)
{
	struct nbd_extent extent[NBD_EXTENTS_MAX];
	(void)state;
	counts = true;
	assert_int_equal(image_extents(&image, 0, BLOCK_SIZE, extent, NBD_EXTENTS_MAX), 1);
	assert_true(!extent[0].hole && extent[0].len == BLOCK_SIZE);
	assert_true(walked <= PIECES_OF_BLOCK);
	assert_int_equal(image_extents(&image, SIZE - BLOCK_SIZE, BLOCK_SIZE, extent, NBD_EXTENTS_MAX), 1);
	assert_true(!extent[0].hole && extent[0].len == BLOCK_SIZE);
	assert_true(walked <= 3 * PIECES_OF_BLOCK);
}

static void large_question_is_answered_in_part(void **state)
{
	struct nbd_extent extent[NBD_EXTENTS_MAX];
	(void)state;
	counts = true;
	for (uint64_t at = 0; at < SIZE; at += extent[0].len) {
		asked = walked = 0;
		assert_int_equal(image_extents(&image, at, (uint32_t)(SIZE - at), extent, NBD_EXTENTS_MAX), 1);
		assert_true(!extent[0].hole && extent[0].len >= min_u64(8 << 20, SIZE - at));
		assert_true(asked <= 257 && walked <= 257 + PIECES_OF_BLOCK);
	}
}

static void search_for_holes_costs_little_however_far_the_data_goes(void **state)
{
	uint64_t until = 0;
	(void)state;
	if (!image.backend.hole)
		skip(); // a file system that is not believed
	counts = true;
	assert_false(image.backend.hole(&image.backend, 0, &until));
	assert_int_equal(until, REGION_SIZE);
	assert_true(walked <= 1);
	assert_false(image.backend.hole(&image.backend, SIZE - BLOCK_SIZE, &until));
	assert_int_equal(until, SIZE);
}

static void punch(uint64_t off, uint64_t len)
{
	assert_int_equal(fallocate(image.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len), 0);
}

// Asks for [off, off + len) until all was told.
static void check(uint64_t off, uint64_t len)
{
	struct nbd_extent extent[NBD_EXTENTS_MAX];
	uint64_t at = off, end = off + len;
	while (at < end) {
		unsigned count = image_extents(&image, at, (uint32_t)(end - at), extent, NBD_EXTENTS_MAX);
		assert_true(count >= 1 && count <= NBD_EXTENTS_MAX);
		for (unsigned i = 0; i < count; i++) {
			uint64_t next = at + extent[i].len, hole = at;
			assert_true(next > at && next <= end);
			off_t data = lseek(image.fd, (off_t)at, SEEK_DATA);
			if (extent[i].hole) {
				assert_true(data < 0 || (uint64_t)data >= next);
				assert_true(next == end || (uint64_t)data == next);
			}
			for (; !extent[i].hole && hole < next; hole = data < 0 ? next : (uint64_t)data) { // each hole in it is small
				hole = (uint64_t)lseek(image.fd, (off_t)hole, SEEK_HOLE);
				data = lseek(image.fd, (off_t)hole, SEEK_DATA);
				assert_true(hole >= next || (data > 0 && (uint64_t)data < hole + BLOCK_SIZE));
			}
			at = next;
		}
	}
}

static void told_holes_are_those_of_the_file(void **state)
{
	static unsigned char data[1 << 20];
	(void)state;
	need_a_file_system_that_knows();
	memset(data, 0x5a, sizeof(data));
	for (off_t at = 4 << 20; at < 44 << 20; at += (off_t)sizeof(data))
		assert_int_equal(pwrite(image.fd, data, sizeof(data), at), sizeof(data));
	assert_int_equal(pwrite(image.fd, data, 4096, SIZE - 4096), 4096);
	for (uint64_t i = 0; i < 20; i++) { // of 4 KiB to 80 KiB, from each place in a block
		punch((5 << 20) + i * (1 << 20) + i * PIECE_SIZE, (i + 1) * PIECE_SIZE);
		if (i < 10) // data of 4 to 40 KiB in holes of 256
			assert_int_equal(pwrite(image.fd, data, (i + 1) * PIECE_SIZE, (off_t)((46 << 20) + i * (256 << 10))), (i + 1) * PIECE_SIZE);
	}
	for (unsigned synced = 0; synced < 2; synced++) {
		static const uint64_t lens[] = {SIZE, 1 << 20, BLOCK_SIZE, 20 << 10, PIECE_SIZE};
		for (unsigned i = 0; i < sizeof(lens) / sizeof(*lens); i++)
			for (uint64_t at = 0; at < SIZE; at += lens[i])
				check(at, min_u64(lens[i], SIZE - at));
		assert_true(image_settle(&image, &failed));
	}
	struct nbd_extent extent[NBD_EXTENTS_MAX];
	assert_int_equal(image_extents(&image, 46 << 20, SIZE - (46 << 20), extent, NBD_EXTENTS_MAX), 21); // small data is told as it is
	for (unsigned i = 0; i < 10; i++) {
		assert_true(!extent[2 * i].hole && extent[2 * i].len == (i + 1) * PIECE_SIZE);
		assert_true(extent[2 * i + 1].hole);
	}
	assert_true(!extent[20].hole && extent[20].len == PIECE_SIZE);
	assert_int_equal(image_extents(&image, 4 << 20, 8 << 20, extent, 1), 1);
	assert_false(extent[0].hole);
}

// E4. What calls data a hole, as one file system did for data that it had not written back, has it lost by whoever copies the disk by these answers.
static void all_is_data_where_nobody_knows_the_file_system(void **state)
{
	struct nbd_extent extent[2];
	(void)state;
	need_a_file_system_that_knows();
	image.known = false;
	counts = true;
	assert_int_equal(image_extents(&image, BLOCK_SIZE, SIZE - BLOCK_SIZE, extent, 2), 1);
	assert_true(!extent[0].hole && extent[0].len == SIZE - BLOCK_SIZE);
	assert_true(walked == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(small_question_costs_little_however_far_the_data_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(large_question_is_answered_in_part, set_up, tear_down),
		cmocka_unit_test_setup_teardown(search_for_holes_costs_little_however_far_the_data_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(told_holes_are_those_of_the_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(all_is_data_where_nobody_knows_the_file_system, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("extents", tests, NULL, NULL);
}
