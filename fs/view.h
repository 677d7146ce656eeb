/*
 * What the mount provides for the replica: the callbacks of struct
 * replica_view, over our tables and queues.
 */
#ifndef SIBFS_VIEW_H
#define SIBFS_VIEW_H

#include "replication/replica.h"

struct fs;

/* fs must outlive the replica's thread. */
struct replica_view view_of(struct fs *fs);

#endif
