// SPDX-License-Identifier: Apache-2.0
// A place for an export: two disks of IMAGE_SIZE on real files, its socket, and a client that sends what it likes. Whatever
// fails here fails the test that called.
#ifndef KAGAMI_TESTS_LIB_EXPORT_PLACE_H
#define KAGAMI_TESTS_LIB_EXPORT_PLACE_H

#include "replicator/export.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_SIZE ((uint64_t)40 << 20)

struct place {
	char dir[128], image[2][192], socket[192];
	struct export_config config; // to be changed before place_start()
	struct export *export;
};

void make_image(const char *path, uint64_t size);
struct place *place_new(void);
void place_start(struct place *p);
void place_stop(struct place *p);
void place_free(struct place *p);

void put_all(int fd, const void *data, size_t len);
void get_all(int fd, void *data, size_t len);
bool closed_by_peer(int fd);
int dial(const struct place *p);			// past the greeting
int dial_disk(const struct place *p, const char *name); // by EXPORT_NAME: no structured replies

enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3, CMD_TRIM = 4, CMD_CACHE = 5, CMD_FUA = 1 << 16 };

void put_request(int fd, unsigned command, uint64_t cookie, uint64_t off, uint32_t len);
uint32_t get_reply(int fd, uint64_t *ret_cookie); // its error
// One request, with its payload, and its answer.
uint32_t ask(int fd, unsigned command, uint64_t off, uint32_t len, void *data);

#endif
