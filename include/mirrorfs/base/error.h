/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person is told when an operation is refused: one line that names the thing and the way out. Functions
 * that can fail for the user's reasons take a `struct error *` beside their -errno; NULL is allowed.
 */
#ifndef MIRRORFS_BASE_ERROR_H
#define MIRRORFS_BASE_ERROR_H

struct error {
	char text[512]; /* no newline; empty: nothing was said */
};

/* Sets the text (the first one stays: the cause is nearer to it) and returns `code`, for `return error_set(...)`. */
int error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
