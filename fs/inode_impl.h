/*
 * What the inode table, inode.c, asks of the descriptors of its inodes,
 * inode_fd.c.  (locked): fs.lock must be held.
 */
#ifndef SIBFS_INODE_IMPL_H
#define SIBFS_INODE_IMPL_H

#include "fs/inode.h"

/* How many there may be, and how they can be opened again. */
void		 inode_fd_init(struct inodes *t);

/* (locked) Takes over an O_PATH descriptor of the inode; one is enough. */
void		 inode_fd_keep(struct inodes *t, struct inode *i, int fd);

/* (locked) Frees what there is to reach it by. */
void		 inode_fd_close(struct inodes *t, struct inode *i);

/* (locked) Is the inode that we know by this number still the file behind fd? */
bool		 inode_fd_is(const struct inodes *t, const struct inode *i, int fd);

#endif
