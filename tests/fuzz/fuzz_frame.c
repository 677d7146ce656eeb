/*
 * A peer's bytes as they come from the link: whatever they are, frames come out
 * or an error does, and nothing is read beyond them.  The first byte says how
 * large the pieces are that they arrive in.
 */
#include "config.h"

#include <stdlib.h>

#include "replication/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { 0 };
	Sibfs__Wire__Frame *f;
	size_t piece = size && data[0] ? data[0] * 8u : 4096;
	int rc = 0;

	for (size_t at = size ? 1 : 0; at < size && rc >= 0; at += piece) {
		bytes_add(&in, data + at, size - at < piece ? size - at : piece);
		while ((rc = frame_get(&in, &f)) == 1) {
			struct bytes again = { 0 };

			/* What could be read can be written. */
			if (frame_put(&again, f, FRAME_ZSTD) < 0 && sibfs__wire__frame__get_packed_size(f) <= FRAME_MAX)
				abort();
			bytes_fini(&again);
			sibfs__wire__frame__free_unpacked(f, NULL);
		}
	}
	bytes_fini(&in);
	return 0;
}
