"""What stands under the chemistry verifiers: notations, the atoms' places, functional groups, measures."""
