/* A small HTTP server that answers every request with a greeting and with what its kernel tells it about itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
}

static size_t describe(char *text, size_t size)
{
    char line[256], host[65] = "?";
    gethostname(host, sizeof host - 1);
    size_t used = (size_t)snprintf(text, size, "%s\nhost %s, pid %d, uid %d\n", getenv("GREETING") ? getenv("GREETING") : "Hello",
                                   host, (int)getpid(), (int)getuid());
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        if ((!strncmp(line, "Cap", 3) || !strncmp(line, "Seccomp:", 8)) && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s", line);
    if (status)
        fclose(status);
    return used < size ? used : size - 1;
}

int main(void)
{
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    int port = atoi(getenv("PORT") ? getenv("PORT") : "8080"), one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("hello: listen");
        return 1;
    }
    printf("listening on 127.0.0.1:%d\n", port);
    fflush(stdout);
    while (!stopping) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        char request[2048], body[2048], head[256];
        if (read(client, request, sizeof request) > 0) {
            size_t length = describe(body, sizeof body);
            int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", length);
            if (write(client, head, (size_t)n) < 0 || write(client, body, length) < 0)
                perror("hello: write");
        }
        close(client);
    }
    printf("stopped cleanly\n");
    return 0;
}
