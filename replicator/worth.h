// SPDX-License-Identifier: Apache-2.0
// Whether a question to the receiver is worth its price, by what it brought lately. Pure.
//
//	asking ──a sample of answers brought too little──► resting
//	   ▲──── so many cases went by without a question; the next time twice as many, within bounds ───┘
//
//	worth_pieces	of a block that differs: its pieces (EXAMINE). An answer costs the receiver a read of the block and the line 260 bytes; what stays at home saves up
//			to 4 KiB a piece. A quarter of the pieces must. An initial sync, and a disk that was written anew, find out after 32 blocks that nothing does
//	worth_question	of a block that the guest wrote: whether the receiver has it already (COMPARE). An answer costs a round trip before the first block of a pass
//			leaves; one in eight must be equal. What is not asked about and is equal costs its bytes once: then it is known (known.h)
#ifndef KAGAMI_REPLICATOR_WORTH_H
#define KAGAMI_REPLICATOR_WORTH_H

#include <stdbool.h>

struct worth_rule {
	unsigned sample; // answers
	unsigned least;	 // that they must bring together
	unsigned rest_min, rest_max; // cases
};
extern const struct worth_rule worth_pieces, worth_question;

struct worth {
	unsigned seen, gained; // of the sample
	unsigned rest;	       // cases to go without a question
	unsigned next_rest;    // after the next sample that brought too little; 0: rest_min
};

bool worth_asks(const struct worth *worth);
void worth_asked(struct worth *worth, const struct worth_rule *rule, unsigned gain); // an answer, and what it brought
void worth_not_asked(struct worth *worth);					       // a case without a question

#endif
