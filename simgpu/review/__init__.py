"""The review page: question, answer, table, pictures and sources of studies in one file that opens anywhere."""
