// SPDX-License-Identifier: Apache-2.0
// What stands at the path of an image that is not open: whether it is there, and which file or device it is. Waits for the disk.
#ifndef KAGAMI_REPLICATOR_IMAGE_PATH_H
#define KAGAMI_REPLICATOR_IMAGE_PATH_H

#include <stdbool.h>
#include <stdint.h>

struct stat;

struct image_file { // which one it is; of a block device, the device, whatever node leads to it
	bool block_device;
	uint64_t device, inode;
};
struct image_file image_file_of(const struct stat *st);
bool image_file_same(const struct image_file *a, const struct image_file *b);

enum image_path { IMAGE_PATH_SAME, IMAGE_PATH_OTHER, IMAGE_PATH_GONE, IMAGE_PATH_UNKNOWN };
// Whether `path` still leads to `file`; it is not known where its file system does not say.
enum image_path image_path_look(const char *path, const struct image_file *file);

// What changes while somebody copies an image to its place: a number of whether it is there, which it is, its size and its time.
uint64_t image_path_digest(const char *path, bool *ret_gone);
// Whether any program on this host has the regular file there open for writing. False where that cannot be known: it is another's file and the caller may not ask, or the
// file system has no leases.
bool image_path_written(const char *path);
// Whether certainly none has: false also where it cannot be known, and of what is no regular file.
bool image_path_apart(const char *path);

#endif
