// SPDX-License-Identifier: Apache-2.0
// Writes that fail, as on a file system that is full or has a limit, without one.
#ifndef KAGAMI_TESTS_LIB_FILE_LIMIT_H
#define KAGAMI_TESTS_LIB_FILE_LIMIT_H

#include <sys/resource.h>

// From here on a file of more than `most` bytes gets -EFBIG, of the whole process; what is made takes a name all the same. RLIM_INFINITY: no more.
void limit_files(rlim_t most);

#endif
