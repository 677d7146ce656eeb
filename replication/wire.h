/*
 * Between the core's structures and protobuf messages.  Encoding never fails
 * but for memory; decoding checks every length, name and identity and returns
 * -EBADMSG for what breaks a rule.  Pure.
 */
#ifndef SIBFS_WIRE_H
#define SIBFS_WIRE_H

#include "replication/state.h"
#include "replication/wire.pb-c.h"

#define WIRE_PROTOCOL 1			/* the newest that we speak */
#define WIRE_PROTOCOL_OLDEST 1
#define WIRE_CAN_MAX 64
#define WIRE_NAME_MAX 255
#define WIRE_VERSIONS_MAX 4096		/* concurrent versions in one register */
#define WIRE_DOTS_MAX 65536		/* entries in one vector */
#define WIRE_ATTRS_MAX 1024
#define WIRE_VALUE_MAX 65536		/* bytes in one attribute */
#define WIRE_CONTENT_MAX (64 * 1024)	/* content that comes along with its version */

/* A file name that may stand in a directory: 1 to 255 bytes, no '/', no NUL,
 * not "." or "..", and in the root not ".sibfs". */
bool		 wire_name_ok(const char *name, bool in_root);

/* Messages for the caller to free with the generated *__free_unpacked(m, NULL):
 * everything in them is allocated by malloc. */
Sibfs__Wire__RegisterValue *wire_regval(const struct regval *r);
Sibfs__Wire__Register	*wire_register(struct reg *r, const struct regval *value);
Sibfs__Wire__Directory	*wire_directory(const struct dir *d);

/* Appends v's entries to a repeated Dot field. */
void		 wire_dots(const struct vv *v, Sibfs__Wire__Dot ***out, size_t *n);
void		 wire_free_dots(Sibfs__Wire__Dot **dots, size_t n);

/* Decoding.  Out-parameters are written only on success, and owned by the caller. */
int		 wire_get_dots(Sibfs__Wire__Dot *const *dots, size_t n, struct vv *out);
int		 wire_get_regval(const Sibfs__Wire__RegisterValue *m, struct regval *out);
int		 wire_get_attrs(Sibfs__Wire__Cell *const *cells, size_t n, struct attrs *out);
int		 wire_get_identity(const ProtobufCBinaryData *b, struct identity *out);

/*
 * A directory's parts; parents are looked up in s: -ENOENT if one is unknown.
 * The identity must be what birth and number make.  birth->name and the moves'
 * names are allocated.
 */
int		 wire_get_directory(struct state *s, const Sibfs__Wire__Directory *m, struct place *birth,
		    uint32_t *number, struct dirval *out);

/* A name field, checked by wire_name_ok, as an allocated string. */
int		 wire_get_name(const ProtobufCBinaryData *b, bool in_root, char **out);

/* Index rows.  Bytes for the caller to free. */
void		 wire_pack_index_reg(const struct reg *r, uint8_t **out, size_t *len);
int		 wire_unpack_index_reg(const uint8_t *p, size_t len, struct reg *r);

#endif
