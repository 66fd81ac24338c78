#include "shm/common/secret_mask.h"

#include <string.h>

/* The longest beginning of `text` that is a part of `secrets`. */
static size_t longest_match(const char *text, const char *secrets)
{
    size_t longest = 0;
    for (; *secrets; secrets++) {
        size_t length = 0;
        while (text[length] && text[length] == secrets[length])
            length++;
        if (length > longest)
            longest = length;
    }
    return longest;
}

void secret_mask(char *text, const char *secrets)
{
    if (!secrets)
        return;
    while (*text) {
        size_t length = longest_match(text, secrets);
        if (length < SECRET_MASK_LEAST) {
            text++;
            continue;
        }
        memset(text, '*', length);
        text += length;
    }
}
