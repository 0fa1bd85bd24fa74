// SPDX-License-Identifier: Apache-2.0
// Where notes of a disk are in the run directory: RUN_DIR/KIND/PROTECTION:DISK. No name of ours has a colon: two disks never share a note.
#ifndef KAGAMI_REPLICATOR_RUN_NOTE_H
#define KAGAMI_REPLICATOR_RUN_NOTE_H

#define RUN_NOTE_PATH_SIZE 4096

// 0, or -ENAMETOOLONG.
int run_note_path(char path[RUN_NOTE_PATH_SIZE], const char *run_dir, const char *kind, const char *protection, const char *disk);
// The same, for one that is to be made: makes the directory of its kind. Where that cannot be, the errno; the path is told all the same.
int run_note_place(char path[RUN_NOTE_PATH_SIZE], const char *run_dir, const char *kind, const char *protection, const char *disk);

#endif
