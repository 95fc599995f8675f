/* Feeds files, or the files of directories, to a fuzz target: a corpus as a test. */
#include <dirent.h>

#include "fuzz.h"

static int replayed_count;

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t size = 0;
    size_t capacity = 4096;
    char *data = malloc(capacity);
    HOLDS(data != NULL);
    for (size_t got; (got = fread(data + size, 1, capacity - size, file)) != 0;) {
        size += got;
        if (size == capacity) {
            data = realloc(data, capacity *= 2);
            HOLDS(data != NULL);
        }
    }
    (void)fclose(file);
    char *exact = exact_copy(data, size);
    free(data);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)exact, size);
    free(exact);
    replayed_count++;
}

static void replay(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        replay_file(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] != '.') {
            char file[4096];
            (void)snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
            replay_file(file);
        }
    }
    (void)closedir(directory);
}

int main(int argument_count, char **arguments)
{
    for (int i = 1; i < argument_count; i++) {
        replay(arguments[i]);
    }
    (void)printf("replayed %d inputs\n", replayed_count);
    return replayed_count != 0 ? 0 : 1;
}
