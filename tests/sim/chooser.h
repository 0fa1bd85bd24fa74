// SPDX-License-Identifier: Apache-2.0
// The chooser: everything in a test that is not determined is one call of choose(n).
//
//	struct chooser c;
//	chooser_init(&c);
//	do {
//		... one run, which calls choose(&c, n) wherever the world may go one way or another ...
//	} while (chooser_next(&c));
//	chooser_done(&c);
//
// Exhaustive: a run replays the vector of choices of the run before with its last digit one higher, as an odometer;
// what comes after the vector is 0. Seeded: what comes after the vector is drawn. Either way chooser_line() gives one
// line that makes the same run again: "CHOICES=3,0,1" or "CHOICES=3 SEED=42" (v*n stands for n times v).
// A run must be a function of its choices. One that is not is a bug of the test, and ends the process.
#ifndef KAGAMI_SIM_CHOOSER_H
#define KAGAMI_SIM_CHOOSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chooser {
	unsigned *at;	// the choices of this run
	unsigned *of;	// how many there were to choose from; 0: not known yet (read from a line)
	size_t count;	// choices made so far in this run
	size_t given;	// length of the vector that the run replays
	size_t room;
	bool drawn;	// past the vector: drawn from the seed, not 0
	uint64_t seed;
	uint64_t state; // of the generator
	unsigned bias;	// which way the draws of this run lean
};

void chooser_init(struct chooser *c); // exhaustive; the first run chooses 0 everywhere
void chooser_done(struct chooser *c);

// One of 0..n-1. Choosing from one is no choice, and not part of the vector.
unsigned choose(struct chooser *c, unsigned n);

// Ends a run and prepares the next one. False when every run has been made.
bool chooser_next(struct chooser *c);
// As chooser_next, leaving out all further runs that begin with the first `keep` choices of this one.
bool chooser_skip(struct chooser *c, size_t keep);
// Prepares a run that keeps the first `keep` choices of this one and draws the others. Seeds lean differently: all 0, all
// the last, mostly one of these, even; so that few draws reach the corners and the middle of a large space.
void chooser_draw(struct chooser *c, size_t keep, uint64_t seed);
// Prepares a run that is made again from the start, with nothing stepped.
void chooser_again(struct chooser *c);

// A number that tells the choices of this run from other choices.
uint64_t chooser_hash(const struct chooser *c);
// What replays this run, one line without its end. The caller frees.
char *chooser_line(const struct chooser *c);
// Prepares the run that a list of choices ("3,0*7,1") and, unless NULL, a seed describe. False when they do not parse.
bool chooser_read(struct chooser *c, const char *choices, const char *seed);

#endif
