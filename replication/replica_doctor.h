/*
 * Looking a store over: the index in itself, and against what stands on disk.
 */
#ifndef SIBFS_REPLICA_DOCTOR_H
#define SIBFS_REPLICA_DOCTOR_H

#include <stdbool.h>

struct replica;

/*
 * For use between replica_open and replica_start only.  adopt: what was changed
 * behind the mount's back is taken in as if it had been done in the mount.
 * A JSON object, allocated:
 *
 *	index		"ok", or what SQLite says is wrong
 *	unreadable	rows of the index that cannot be read
 *	registers, files, directories	how many were looked at
 *	changed, missing, unknown	files and directories that are not as the
 *			index has them: paths, the first 1000 of each
 *	marks		files whose mark says something else than the index
 *	pending, wanted, conflicts	counts
 *	staging, moving, trash	{files, bytes}
 *	adopted		how many of changed, missing and unknown were taken in
 *	healthy		true if there is nothing amiss
 */
char		*replica_doctor(struct replica *r, bool adopt);

#endif
