/*
 * The log: one line an event, to stderr, or to the system's log once the
 * daemon is in the background.  Any thread.  Pure modules do not log.
 */
#ifndef SIBFS_LOG_H
#define SIBFS_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_TRACE };

/* LOG_NOTE and above are shown unless SIBFS_LOG=trace|note|warn|error says
 * otherwise.  path NULL: stderr; otherwise lines are appended to that file with
 * a time in front. */
int		 log_open(const char *path);

/* For commands that run for a moment, before anything is logged: only what is
 * amiss is shown, unless SIBFS_LOG says otherwise. */
void		 log_quiet(void);
void		 log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)	log_line(LOG_ERROR, __VA_ARGS__)	/* needs a person */
#define log_warn(...)	log_line(LOG_WARN, __VA_ARGS__)		/* healed itself */
#define log_info(...)	log_line(LOG_NOTE, __VA_ARGS__)		/* daily life */
#define log_debug(...)	log_line(LOG_TRACE, __VA_ARGS__)	/* for developers */

#endif
