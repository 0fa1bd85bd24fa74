// SPDX-License-Identifier: Apache-2.0
// A twin: an overlay being written, and a model of what it must hold; for the tests of format/qcow2.
// Everything fails the test that calls when the overlay refuses what it should take.
#ifndef KAGAMI_TESTS_LIB_TWIN_H
#define KAGAMI_TESTS_LIB_TWIN_H

#include "base/env.h"
#include "base/size.h"
#include "format/qcow2.h"

#include <stdbool.h>
#include <stdint.h>

// A temporary directory, open as a root of the real environment.
struct temp {
	char dir[256];
	struct env_root *root;
};
void temp_open(struct temp *temp);
void temp_close(struct temp *temp); // removes it
void temp_shell(const struct temp *temp, const char *format, ...) __attribute__((format(printf, 2, 3))); // runs the command there; it must succeed

// Random numbers from a seed.
uint64_t draw(uint64_t *seed);
uint64_t draw_below(uint64_t *seed, uint64_t end);

struct model {
	uint64_t size;
	uint64_t blocks;
	uint16_t *mask;	     // by block: pieces held
	unsigned char *data; // blocks * BLOCK_SIZE
};
void model_apply(const struct model *model, unsigned char *disk); // over what lies below
void model_free(struct model *model);

struct twin {
	struct model model;
	enum codec codec;
	uint64_t seed;
	struct codec_context *context;
	struct env_file *file;
	struct qcow2_writer *writer;
	unsigned char block[BLOCK_SIZE]; // the last one that was drawn
};
// Creates `name` below `root`.
void twin_begin(struct twin *twin, struct env_root *root, const char *name, const struct qcow2_config *config,
		uint64_t seed);
// Writes to the overlay and the model; what is written is drawn.
void twin_packed(struct twin *twin, uint64_t index);
void twin_pieces(struct twin *twin, uint64_t index, uint16_t mask);
void twin_zeros(struct twin *twin, uint64_t first, uint64_t count);
// One of the above.
void twin_random(struct twin *twin);
// Finishes the file and leaves the model, which the caller frees.
struct model twin_finish(struct twin *twin);
// Draws twin->block, compressible, with zeros past the end of the disk; packs it.
void twin_draw(struct twin *twin, uint64_t index);
size_t twin_pack(struct twin *twin, unsigned char packed[BLOCK_SIZE]);

// Whether `file` reads as the model says, with all ways to read it, and its refcounts are right.
void twin_check(struct env_file *file, const struct model *model);
// Whether every cluster's refcount is the number of references to it: no errors, no leaks. Of a file that was just
// finished.
void twin_check_refcounts(struct env_file *file);

#endif
