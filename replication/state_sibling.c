/*
 * The names of what does not have the name that it would like.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include <openssl/sha.h>

#include "replication/state.h"

void
state_sibling(const char *name, const char *label, char *out)
{
	char end[STATE_NAME_MAX + 1];
	size_t len = strlen(name), end_len;
	uint8_t sum[SHA256_DIGEST_LENGTH];

	end_len = (size_t)snprintf(end, sizeof(end), "%s%s", STATE_SEP, label);
	if (len + end_len > STATE_NAME_MAX) {
		SHA256((const uint8_t *)name, len, sum);
		end_len = (size_t)snprintf(end, sizeof(end), "~%02x%02x%02x%02x%s%s", sum[0], sum[1], sum[2], sum[3],
		    STATE_SEP, label);
		len = STATE_NAME_MAX - end_len;
		while (len && ((unsigned char)name[len] & 0xC0) == 0x80)
			len--;
	}
	memcpy(out, name, len);
	memcpy(out + len, end, end_len + 1);
}
