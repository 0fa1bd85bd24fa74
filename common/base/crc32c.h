// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli; RFC 3720 appendix B.4), the checksum of every format of ours.
#ifndef KAGAMI_BASE_CRC32C_H
#define KAGAMI_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// The CRC of `len` bytes. crc32c("123456789", 9) is 0xe3069283.
uint32_t crc32c(const void *data, size_t len);

#endif
