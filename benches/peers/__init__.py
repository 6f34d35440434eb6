"""The same job by bgeprep and by the libraries people use today, on one file in one run."""
