"""Whether a supply may be withheld: rule sets as data, registers of the protected, facts of collections, evidence."""
