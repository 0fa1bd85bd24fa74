// SPDX-License-Identifier: Apache-2.0
// What the operations of the model (store_model_ops.c, store_model_recovery.c) and the model share.
#ifndef KAGAMI_TESTS_LIB_STORE_MODEL_PRIVATE_H
#define KAGAMI_TESTS_LIB_STORE_MODEL_PRIVATE_H

#include "base/size.h"
#include "tests/lib/store_model.h"
#include "tests/lib/twin.h"

uint64_t model_draw(struct store_model *model, uint64_t end);
void model_wrong(struct store_model *model, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const struct model_point *model_last(const struct store_model *model); // NULL without one
struct model_point model_snapshot(const struct store_model *model, uint64_t number, const struct uuid *cut);
void model_add_point(struct store_model *model, const struct model_point *point); // takes its memory over
void model_drop_point(struct store_model *model, size_t n);
void model_forget_points(struct store_model *model); // and the fence
void model_head_anew(struct store_model *model, const struct uuid *uuid);

void model_create(struct store_model *model); // a protection with another identity
void model_session_end(struct store_model *model);
void model_close(struct store_model *model);
void model_open(struct store_model *model);	  // after model_close()
void model_power_back(struct store_model *model); // cuts the power if it is on, and opens the store again
// An operation did not succeed: fine when the power went off; then the store is opened again.
void model_unless_off(struct store_model *model, const char *what, const struct err *err);

unsigned model_tests_on(const struct store_model *model, uint64_t number); // each holds its point
void model_recovery_find(struct store_model *model);			   // after a power cut, with store and tests open
void model_recovery_check(struct store_model *model, const struct replica_info *info);
void model_op_pin(struct store_model *model);
void model_op_unpin(struct store_model *model);
void model_op_test_start(struct store_model *model);
void model_op_test_stop(struct store_model *model);
void model_op_failover(struct store_model *model);
void model_op_rollback(struct store_model *model);
void model_op_commit(struct store_model *model);

#endif
