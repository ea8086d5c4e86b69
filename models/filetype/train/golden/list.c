#include <stdlib.h>
#include <string.h>

struct node {
	struct node *next;
	char name[32];
};

static struct node *head;

int list_add(const char *name)
{
	struct node *n = malloc(sizeof(*n));

	if (n == NULL)
		return -1;
	strncpy(n->name, name, sizeof(n->name) - 1);
	n->name[31] = '\0';
	n->next = head;
	head = n;
	return 0;
}
