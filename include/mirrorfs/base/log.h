/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's log: one line an event, `key=value` behind a short sentence. Where it goes is decided once by
 * the tool (standard error in the foreground, the journal or syslog behind). Any thread; never waits for a leg.
 */
#ifndef MIRRORFS_BASE_LOG_H
#define MIRRORFS_BASE_LOG_H

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR, /* data or availability is affected */
	LOG_LEVEL_WARN, /* something was healed, degraded or refused */
	LOG_LEVEL_INFO, /* a state changed as asked */
	LOG_LEVEL_DEBUG, /* off unless -d, or MIRRORFS_DEBUG names the storey */
};

/* `sink` receives whole lines without newline. Set before threads start; NULL restores standard error. */
void log_set_sink(void (*sink)(enum log_level level, const char *line));

void log_set_level(enum log_level level); /* lines above it are dropped, but for debug ones that are wanted; INFO */

/* "leg,mirror": debug lines of these storeys; "all". False: one of them is none, and nothing is changed. */
bool log_debug_storeys(const char *names);
extern bool log_debugging; /* any are wanted */
bool log_debug_wanted(const char *file);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
/* Only those of the storeys that are wanted, which the path of the source tells. */
#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_debugging && log_debug_wanted(__FILE__))               \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                \
	} while (0)

#endif
