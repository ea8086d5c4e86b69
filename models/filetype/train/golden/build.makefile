# Builds the tool.
CC ?= cc
CFLAGS += -O2 -Wall -Wextra
OBJS = main.o list.o util.o

all: tool

tool: $(OBJS)
	$(CC) $(LDFLAGS) -o $@ $^

%.o: %.c
	$(CC) $(CFLAGS) -c -o $@ $<

clean:
	rm -f tool $(OBJS)

.PHONY: all clean
