/* In place of libFuzzer: runs a fuzz target over the files that are named, each once. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SIZE = 1 << 16 };

static void run(const char *path)
{
    uint8_t *data = malloc(MAX_SIZE);
    FILE *file = fopen(path, "rb");
    assert(data != NULL && file != NULL);
    size_t size = fread(data, 1, MAX_SIZE, file);
    uint8_t *exact = realloc(data, size + 1); /* so that a touch behind it is seen */
    assert(exact != NULL && feof(file) && fclose(file) == 0);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        fprintf(stderr, "%s\n", argv[i]); /* the last line names the one that failed */
        run(argv[i]);
    }
    return 0;
}
