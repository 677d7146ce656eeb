/*
 * Going into the background.  The starting process stays until the daemon
 * says that it serves, or why it does not, and ends with that.
 */
#ifndef SIBFS_DAEMON_H
#define SIBFS_DAEMON_H

/*
 * Forks.  In the parent it does not return before the daemon has reported; it
 * then returns the exit status.  In the daemon it returns -1: a session of its
 * own, no descriptor of the caller left, stdio on /dev/null, cwd /.
 */
int		 daemon_start(void);

/* From the daemon (or, without daemon_start, to stderr): it serves, or failed
 * with a status and a line for the user.  The first report counts. */
void		 daemon_ready(void);
void		 daemon_failed(int status, const char *why);

#endif
