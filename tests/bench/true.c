/* The cheapest program there is: what its start costs is the machine's. */
int main(void)
{
	return 0;
}
